/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI-X vectors and event suppression. The other end is
 * kernel-driver/labnic_irq.c.
 */
#include "qemu/osdep.h"
#include "hw/pci/msix.h"
#include "labnic.h"

/* No fault stands in the way here */
void labnic_irq_send(LabnicState *s, unsigned vector)
{
    PCIDevice *pci_dev = PCI_DEVICE(s);

    /* A function can be made to have fewer vectors than it has sources */
    if (!msix_enabled(pci_dev) || vector >= labnic_vectors(s)) {
        trace_labnic_irq_off(s->name, vector);
        return;
    }
    trace_labnic_irq(s->name, vector);
    msix_notify(pci_dev, vector);
    labnic_count(s, vector == LABNIC_VECTOR_MISC ? LABNIC_COUNTER_IRQ_MISC :
                                                   LABNIC_COUNTER_IRQ_QUEUE);
}

static void labnic_irq_fire(LabnicState *s, unsigned vector)
{
    if (labnic_dead(s)) {
        return;
    }
    if (unlikely(s->faults.kinds) && labnic_fault_irq_slow(s, vector)) {
        return;
    }
    labnic_irq_send(s, vector);
}

/*
 * Interrupts when a count's step from before to after passes the event that
 * the driver wrote. The count must be visible to the driver before the call.
 * A block that cannot be read counts as wish for an interrupt: the driver
 * will come and look.
 */
void labnic_irq_event(LabnicState *s, bool tx, unsigned qi, uint32_t before,
                      uint32_t after)
{
    uint64_t addr = tx ? LABNIC_STATUS_ADDR(s, qi, tx_irq_event) :
                         LABNIC_STATUS_ADDR(s, qi, rx_irq_event);
    uint32_t event;

    if (before == after) {
        return;
    }
    if (labnic_dma_read(s, addr, &event, sizeof(event))) {
        event = le32_to_cpu(event);
        if (s->audit) {
            labnic_audit_event_slow(s, tx, qi, before, event);
        }
        if (after - event - 1 >= after - before) {
            return;
        }
    }
    labnic_irq_fire(s, LABNIC_VECTOR_QUEUE0 + qi);
}

/* The misc vector fires when an enabled cause appears */
static void labnic_irq_misc_update(LabnicState *s, uint32_t before)
{
    uint32_t now = s->misc_cause & s->misc_enable;

    if (now & ~before) {
        labnic_irq_fire(s, LABNIC_VECTOR_MISC);
    }
}

void labnic_irq_misc(LabnicState *s, uint32_t cause)
{
    uint32_t before = s->misc_cause & s->misc_enable;

    s->misc_cause |= cause;
    labnic_irq_misc_update(s, before);
}

void labnic_irq_misc_set_enable(LabnicState *s, uint32_t enable)
{
    uint32_t before = s->misc_cause & s->misc_enable;

    s->misc_enable = enable;
    labnic_irq_misc_update(s, before);
}

/* Stops a queue for a reason that the driver can read */
void labnic_queue_error(LabnicState *s, bool tx, unsigned qi, uint32_t error)
{
    trace_labnic_queue_error(s->name, tx ? "TX" : "RX", qi, error);
    labnic_count(s, LABNIC_COUNTER_QUEUE_ERRORS);
    if (s->audit) {
        labnic_audit_error_slow(s, tx, qi, error);
    }
    if (tx) {
        s->tx[qi].error = error;
        s->queue_errors |= 1u << (ctz32(LABNIC_QUEUE_ERRORS_TX) + qi);
        labnic_tx_stop(s, qi);
    } else {
        s->rx[qi].error = error;
        s->queue_errors |= 1u << (ctz32(LABNIC_QUEUE_ERRORS_RX) + qi);
        labnic_rx_stop(s, qi);
    }
    labnic_irq_misc(s, LABNIC_MISC_CAUSE_QUEUE_ERROR);
}
