/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carrier and speed; QMP set_link arrives here. The other end is
 * kernel-driver/labnic_link.c.
 */
#include "qemu/osdep.h"
#include "labnic.h"

/* A NIC without a backend has no cable in it; a fault may pull the cable */
static bool labnic_link_carrier(const LabnicState *s)
{
    NetClientState *nc = qemu_get_queue(s->nic);

    return nc->peer && !nc->link_down &&
           !(unlikely(s->faults.kinds) && labnic_fault_carrier_off(s));
}

uint32_t labnic_link_reg(const LabnicState *s)
{
    if (!s->link_up) {
        return 0;
    }
    return LABNIC_LINK_UP | LABNIC_LINK_FULL_DUPLEX |
           s->speed << ctz32(LABNIC_LINK_SPEED);
}

/* Takes over the state of the network backend, unless a fault forbids it */
void labnic_link_update(LabnicState *s)
{
    bool up = labnic_link_carrier(s);

    if (up == s->link_up || labnic_dead(s)) {
        return;
    }
    trace_labnic_link(s->name, up, s->speed);
    s->link_up = up;
    labnic_count(s, LABNIC_COUNTER_LINK_CHANGES);
    labnic_irq_misc(s, LABNIC_MISC_CAUSE_LINK);
    if (!up && s->tx_wait_queue != LABNIC_NO_QUEUE) {
        /*
         * The frame that the backend keeps is not sent any more: it comes
         * back through the callback, and is then consumed without a carrier.
         */
        qemu_purge_queued_packets(qemu_get_queue(s->nic));
    }
    labnic_rx_resume(s);
}

void labnic_link_changed(NetClientState *nc)
{
    LabnicState *s = qemu_get_nic_opaque(nc);
    bool was_busy = s->busy;

    s->busy = true;
    labnic_link_update(s);
    s->busy = was_busy;
}
