/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The audit: what the driver does and must not. Off unless the device has
 * the property auditing=on; each question is then one look at a pointer.
 */
#ifndef LABNIC_AUDIT_H
#define LABNIC_AUDIT_H

#include "labnic_ring.h"

/* In place of a queue pair's number */
#define LABNIC_AUDIT_NO_QUEUE (-1)

struct LabnicState;
typedef struct LabnicAudit LabnicAudit;

/* labnic_audit.c */
void labnic_audit_init(struct LabnicState *s);
void labnic_audit_exit(struct LabnicState *s);
void labnic_audit_class_init(ObjectClass *klass);
void G_GNUC_PRINTF(4, 5)
labnic_audit_violation(struct LabnicState *s, enum labnic_audit_rule rule,
                       int queue, const char *fmt, ...);
void labnic_audit_excuse_slow(struct LabnicState *s, bool tx, unsigned qi);
bool labnic_audit_excused(const struct LabnicState *s, bool tx, unsigned qi);
void labnic_audit_start_slow(struct LabnicState *s, bool tx, unsigned qi);
void labnic_audit_stop_slow(struct LabnicState *s, bool tx, unsigned qi);
void labnic_audit_read_slow(struct LabnicState *s, uint32_t addr);
void labnic_audit_write_slow(struct LabnicState *s, uint32_t addr,
                             uint32_t value);
void labnic_audit_config_slow(struct LabnicState *s, bool was_running);
bool labnic_audit_running(const struct LabnicState *s);
void labnic_audit_dma_slow(struct LabnicState *s, uint64_t addr, size_t len,
                           bool read);
void labnic_audit_error_slow(struct LabnicState *s, bool tx, unsigned qi,
                             uint32_t error);

void labnic_audit_function_reset(struct LabnicState *s);
void labnic_audit_loaded(struct LabnicState *s);

/* labnic_audit_ring.c */
typedef struct LabnicAuditRing LabnicAuditRing;
void labnic_audit_ring_start(LabnicAuditRing *r, const LabnicRing *ring,
                             bool tx);
void labnic_audit_ring_free(LabnicAuditRing *r);
LabnicAuditRing *labnic_audit_ring(const struct LabnicState *s, bool tx,
                                   unsigned qi);
void labnic_audit_look_slow(struct LabnicState *s, bool tx, unsigned qi);
void labnic_audit_consume_slow(struct LabnicState *s, bool tx, unsigned qi,
                               uint32_t n);
void labnic_audit_doorbell_slow(struct LabnicState *s, bool tx, unsigned qi,
                                uint32_t published);
void labnic_audit_event_slow(struct LabnicState *s, bool tx, unsigned qi,
                             uint32_t before, uint32_t event);

/* What the audit keeps of a ring */
struct LabnicAuditRing {
    LabnicDesc *shadow;         /* entries as they were when first seen */
    uint32_t size;              /* entries of the shadow */
    uint32_t seen;              /* entries that were looked at */
    GHashTable *posted;         /* RX: addresses that are the device's */

    /* The driver's last event, and what it had been shown before that */
    bool has_event;
    uint32_t event;
    uint32_t shown;
    unsigned stale;
};

#endif
