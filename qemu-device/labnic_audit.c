/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The audit: rules about the function as a whole, and the list of violations.
 * labnic_audit_ring.c has the rules about rings.
 *
 * Only what the device sees can be judged, and only what no correct driver
 * does is called a violation. Where the device itself has lied to the driver
 * (a fault that corrupts a completion) or has stopped a queue behind its back
 * (an error, a reset of the function), the queue is excused until the driver
 * enables it again.
 */
#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "labnic.h"

#define LABNIC_AUDIT_DETAIL 160

typedef struct LabnicAuditRecord {
    uint64_t count;
    char detail[LABNIC_AUDIT_DETAIL];   /* of the first */
} LabnicAuditRecord;

struct LabnicAudit {
    LabnicAuditRing tx[LABNIC_MAX_QUEUES];
    LabnicAuditRing rx[LABNIC_MAX_QUEUES];
    uint32_t excused_tx;        /* bit per queue */
    uint32_t excused_rx;
    /* The first place is for violations that are about no queue */
    LabnicAuditRecord record[LABNIC_N_AUDITS][LABNIC_MAX_QUEUES + 1];
};

static const struct {
    const char *name;
} labnic_audit_rules[] = {
#define X(ID, name) { name },
    LABNIC_AUDITS(X)
#undef X
};

QEMU_BUILD_BUG_ON(ARRAY_SIZE(labnic_audit_rules) != LABNIC_N_AUDITS);

void labnic_audit_violation(LabnicState *s, enum labnic_audit_rule rule,
                            int queue, const char *fmt, ...)
{
    LabnicAuditRecord *record = &s->audit->record[rule][queue + 1];
    g_autofree char *detail = NULL;
    va_list ap;

    va_start(ap, fmt);
    detail = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    trace_labnic_audit_error(s->name, labnic_audit_rules[rule].name, queue,
                             detail);
    if (!record->count++) {
        pstrcpy(record->detail, sizeof(record->detail), detail);
    }
}

LabnicAuditRing *labnic_audit_ring(const LabnicState *s, bool tx, unsigned qi)
{
    return tx ? &s->audit->tx[qi] : &s->audit->rx[qi];
}

/* Excuses */

static uint32_t *labnic_audit_excuses(const LabnicState *s, bool tx)
{
    return tx ? &s->audit->excused_tx : &s->audit->excused_rx;
}

void labnic_audit_excuse_slow(LabnicState *s, bool tx, unsigned qi)
{
    *labnic_audit_excuses(s, tx) |= 1u << qi;
}

bool labnic_audit_excused(const LabnicState *s, bool tx, unsigned qi)
{
    return *labnic_audit_excuses(s, tx) & 1u << qi;
}

/* The driver itself takes the queue out of use, and so it knows */
void labnic_audit_stop_slow(LabnicState *s, bool tx, unsigned qi)
{
    *labnic_audit_excuses(s, tx) &= ~(1u << qi);
}

/* The driver has enabled the queue, or it is on in a state that was loaded */
void labnic_audit_start_slow(LabnicState *s, bool tx, unsigned qi)
{
    *labnic_audit_excuses(s, tx) &= ~(1u << qi);
    labnic_audit_ring_start(labnic_audit_ring(s, tx, qi),
                            tx ? &s->tx[qi].ring : &s->rx[qi].ring, tx);
    labnic_audit_look_slow(s, tx, qi);
}

/* The driver need not know that its queues are off now */
void labnic_audit_function_reset(LabnicState *s)
{
    for (unsigned qi = 0; s->audit && qi < s->num_queues; qi++) {
        if (s->tx[qi].ring.enabled) {
            labnic_audit_excuse_slow(s, true, qi);
        }
        if (s->rx[qi].ring.enabled) {
            labnic_audit_excuse_slow(s, false, qi);
        }
    }
}

/* What is in the rings of a loaded state is seen for the first time */
void labnic_audit_loaded(LabnicState *s)
{
    for (unsigned qi = 0; s->audit && qi < s->num_queues; qi++) {
        if (s->tx[qi].ring.enabled) {
            labnic_audit_start_slow(s, true, qi);
        }
        if (s->rx[qi].ring.enabled) {
            labnic_audit_start_slow(s, false, qi);
        }
    }
}

/* Power and bus mastering */

static bool labnic_audit_master(const LabnicState *s)
{
    return pci_get_word(PCI_DEVICE(s)->config + PCI_COMMAND) &
           PCI_COMMAND_MASTER;
}

static bool labnic_audit_awake(const LabnicState *s)
{
    return !(pci_get_word(PCI_DEVICE(s)->config + s->pm_offset + PCI_PM_CTRL) &
             PCI_PM_CTRL_STATE_MASK);
}

bool labnic_audit_running(const LabnicState *s)
{
    return labnic_audit_master(s) && labnic_audit_awake(s);
}

/*
 * After each write to configuration space. From a device that hangs bus
 * mastering is rightly taken: it cannot be stopped in another way.
 */
void labnic_audit_config_slow(LabnicState *s, bool was_running)
{
    if (!was_running || labnic_audit_running(s) || labnic_dead(s)) {
        return;
    }
    for (unsigned qi = 0; qi < s->num_queues; qi++) {
        if (s->tx[qi].ring.enabled || s->rx[qi].ring.enabled) {
            labnic_audit_violation(s, LABNIC_AUDIT_STOP_RUNNING, qi,
                                   "%s while its %s queue is enabled",
                                   labnic_audit_awake(s) ?
                                   "bus mastering goes off" : "D0 is left",
                                   s->tx[qi].ring.enabled ? "TX" : "RX");
        }
    }
}

static bool labnic_audit_reachable(LabnicState *s, uint32_t addr,
                                   const char *what)
{
    if (!labnic_audit_awake(s)) {
        labnic_audit_violation(s, LABNIC_AUDIT_ACCESS_ASLEEP,
                               LABNIC_AUDIT_NO_QUEUE, "%s of 0x%04x", what,
                               addr);
        return false;
    }
    return true;
}

void labnic_audit_read_slow(LabnicState *s, uint32_t addr)
{
    labnic_audit_reachable(s, addr, "read");
}

/*
 * Without bus mastering a driver may only bring the device to rest: before it
 * allows DMA, since someone else may have left the device at work, and after.
 */
void labnic_audit_write_slow(LabnicState *s, uint32_t addr, uint32_t value)
{
    bool rest = !value || (addr == LABNIC_REG_CTRL &&
                           value & LABNIC_CTRL_RESET);

    if (labnic_audit_reachable(s, addr, "write") && !rest &&
        !labnic_audit_master(s)) {
        labnic_audit_violation(s, LABNIC_AUDIT_WRITE_DISABLED,
                               LABNIC_AUDIT_NO_QUEUE,
                               "write of 0x%x to 0x%04x", value, addr);
    }
}

/* Guest memory did not take or give the bytes, and no fault is the cause */
void labnic_audit_dma_slow(LabnicState *s, uint64_t addr, size_t len, bool read)
{
    labnic_audit_violation(s, labnic_audit_master(s) ?
                              LABNIC_AUDIT_DMA_NOWHERE : LABNIC_AUDIT_DMA_OFF,
                           LABNIC_AUDIT_NO_QUEUE,
                           "%s of %zu bytes at 0x%" PRIx64,
                           read ? "read" : "write", len, addr);
}

/* A queue stops; the driver goes on with it until it has noticed */
void labnic_audit_error_slow(LabnicState *s, bool tx, unsigned qi,
                             uint32_t error)
{
    /* DMA and doorbells have rules of their own */
    if (error != LABNIC_ERR_DMA_READ && error != LABNIC_ERR_DMA_WRITE &&
        error != LABNIC_ERR_DOORBELL && !labnic_audit_excused(s, tx, qi)) {
        labnic_audit_violation(s, LABNIC_AUDIT_BAD_DESCRIPTOR, qi,
                               "%s stops with error %u at head %u",
                               tx ? "TX" : "RX", error,
                               tx ? s->tx[qi].ring.head : s->rx[qi].ring.head);
    }
    labnic_audit_excuse_slow(s, tx, qi);
}

/* Life */

void labnic_audit_init(LabnicState *s)
{
    if (s->auditing) {
        s->audit = g_new0(LabnicAudit, 1);
    }
}

void labnic_audit_exit(LabnicState *s)
{
    if (!s->audit) {
        return;
    }
    for (unsigned qi = 0; qi < LABNIC_MAX_QUEUES; qi++) {
        labnic_audit_ring_free(&s->audit->tx[qi]);
        labnic_audit_ring_free(&s->audit->rx[qi]);
    }
    g_free(s->audit);
    s->audit = NULL;
}

/* Properties: audit gives the violations, audit-clear forgets them */

static bool labnic_audit_on(const LabnicState *s, Error **errp)
{
    if (!s->audit) {
        error_setg(errp, "labnic: the audit is off: the device was not made "
                   "with auditing=on");
    }
    return s->audit;
}

static bool labnic_audit_put(Visitor *v, unsigned rule, int64_t queue,
                             const LabnicAuditRecord *record, Error **errp)
{
    char *name = (char *)labnic_audit_rules[rule].name;
    char *detail = (char *)record->detail;
    int64_t count = record->count;
    bool good;

    if (!visit_start_struct(v, NULL, NULL, 0, errp)) {
        return false;
    }
    good = visit_type_str(v, "rule", &name, errp) &&
           (queue < 0 || visit_type_int64(v, "queue", &queue, errp)) &&
           visit_type_int64(v, "count", &count, errp) &&
           visit_type_str(v, "detail", &detail, errp);
    visit_end_struct(v, NULL);
    return good;
}

static void labnic_audit_get(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    LabnicState *s = LABNIC(obj);
    bool good = true;

    if (!labnic_audit_on(s, errp) ||
        !visit_start_list(v, name, NULL, 0, errp)) {
        return;
    }
    for (unsigned rule = 0; good && rule < LABNIC_N_AUDITS; rule++) {
        for (int place = 0; good && place <= LABNIC_MAX_QUEUES; place++) {
            const LabnicAuditRecord *record = &s->audit->record[rule][place];

            if (record->count) {
                good = labnic_audit_put(v, rule, place - 1, record, errp);
            }
        }
    }
    visit_end_list(v, NULL);
}

static void labnic_audit_set_clear(Object *obj, Visitor *v, const char *name,
                                   void *opaque, Error **errp)
{
    LabnicState *s = LABNIC(obj);
    bool clear;

    if (visit_type_bool(v, name, &clear, errp) && labnic_audit_on(s, errp) &&
        clear) {
        memset(s->audit->record, 0, sizeof(s->audit->record));
    }
}

void labnic_audit_class_init(ObjectClass *klass)
{
    object_class_property_add(klass, "audit", "LabnicViolationList",
                              labnic_audit_get, NULL, NULL, NULL);
    object_class_property_set_description(klass, "audit",
                                          "What the driver did wrong");
    object_class_property_add(klass, "audit-clear", "bool", NULL,
                              labnic_audit_set_clear, NULL, NULL);
    object_class_property_set_description(klass, "audit-clear",
                                          "Forgets what the driver did wrong");
}
