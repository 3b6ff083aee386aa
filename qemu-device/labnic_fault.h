/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scripted faults: what is set, and the questions that the device's files ask
 * on their way. With no fault of a kind set a question costs one look at one
 * word.
 */
#ifndef LABNIC_FAULT_H
#define LABNIC_FAULT_H

#include "qemu/timer.h"
#include "include/labnic_hw.h"

/* Faults that can be set at the same time */
#define LABNIC_FAULTS_MAX 32

/* In place of a queue pair's number */
#define LABNIC_FAULT_ANY (-1)
#define LABNIC_FAULT_MISC (-2)

struct LabnicState;

typedef struct LabnicFault {
    uint32_t id;                /* zero when the place is free */
    enum labnic_fault_kind kind;
    int queue;                  /* or LABNIC_FAULT_ANY, LABNIC_FAULT_MISC */
    uint32_t after;
    uint32_t count;             /* zero: until it is cleared */
    uint32_t chance;            /* of LABNIC_FAULT_CHANCE_ALL events */
    uint32_t seed;
    uint32_t reg;
    int64_t value;

    uint64_t seen;
    uint64_t hits;
    uint32_t random;            /* state of the generator, never zero */

    /* Of the kinds that act by themselves */
    struct LabnicState *owner;
    QEMUTimer clock;
    bool carrier_off;
} LabnicFault;

#define LABNIC_FAULT_CHANCE_ALL 1000

typedef struct LabnicFaults {
    uint32_t kinds;             /* bit per kind of which one is set */
    bool hung;
    bool gone;
    bool write_lost;            /* while hung, and it was no doorbell */
    uint32_t last_id;
    LabnicFault list[LABNIC_FAULTS_MAX];

    /* What irq-delay holds back: when it is due, zero for nothing */
    int64_t irq_due[LABNIC_MAX_QUEUES + LABNIC_VECTOR_QUEUE0];
    QEMUTimer irq_clock;

    MemoryRegion no_msix;       /* lies over the MSI-X table while gone */
} LabnicFaults;

/* labnic_fault.c */
void labnic_fault_init(struct LabnicState *s);
void labnic_fault_exit(struct LabnicState *s);
void labnic_fault_add(struct LabnicState *s, const LabnicFault *wanted);
void labnic_fault_clear(struct LabnicState *s, LabnicFault *f);
void labnic_fault_forget(struct LabnicState *s);
LabnicFault *labnic_fault_strike(struct LabnicState *s,
                                 enum labnic_fault_kind kind, int queue);
void labnic_fault_access_slow(struct LabnicState *s);
uint32_t labnic_fault_register_slow(struct LabnicState *s, uint32_t addr,
                                    uint32_t value);
bool labnic_fault_irq_slow(struct LabnicState *s, unsigned vector);
void labnic_fault_cmpl_slow(struct LabnicState *s, unsigned qi,
                            struct labnic_rx_cmpl *cmpl);
bool labnic_fault_carrier_off(const struct LabnicState *s);

/* labnic_fault_qom.c */
const char *labnic_fault_name(enum labnic_fault_kind kind);
void labnic_fault_class_init(ObjectClass *klass);

#endif
