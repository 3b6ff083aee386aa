/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A backend that puts a vnet header before each frame: what it is told that
 * the device takes, and what is done to frames that come unfinished.
 */
#include "qemu/osdep.h"
#include "standard-headers/linux/virtio_net.h"
#include "labnic.h"

/* Tells the backend to cut and to sum, or not to; it is not so if need be */
void labnic_vnet_update(LabnicState *s)
{
    bool whole = s->drv_features & LABNIC_FEATURE_RX_GRO;

    if (!s->vnet || whole == s->vnet_whole) {
        return;
    }
    s->vnet_whole = whole;
    trace_labnic_vnet_update(s->name, whole);
    labnic_set_offload(qemu_get_queue(s->nic)->peer, whole);
}

/* A backend that takes a vnet header can sum and cut, too, or need not */
void labnic_vnet_init(LabnicState *s)
{
    NetClientState *peer = qemu_get_queue(s->nic)->peer;

    s->vnet = s->vnet_hdr && qemu_has_vnet_hdr(peer) &&
              qemu_has_vnet_hdr_len(peer, LABNIC_VNET_LEN);
    if (s->vnet) {
        labnic_use_vnet_hdr(peer, LABNIC_VNET_LEN);
        labnic_set_offload(peer, false);
    }
}

/* A frame with a checksum that is still to be filled in */
static bool labnic_vnet_finish(LabnicState *s, const uint8_t *bytes,
                               size_t size, const LabnicVnet *vnet)
{
    if (size > LABNIC_FRAME_MAX ||
        vnet->csum_start + vnet->csum_offset + sizeof(uint16_t) > size) {
        labnic_rx_drop(s, size, LABNIC_COUNTER_RX_TOO_LONG, "no checksum");
        return true;
    }
    memcpy(s->rx_bytes, bytes, size);
    labnic_csum_fill(s->rx_bytes, size, vnet->csum_start, vnet->csum_offset);
    return labnic_rx_frame(s, s->rx_bytes, size, NULL);
}

/*
 * Makes segments of a frame that the driver, or its short buffers, do not take
 * whole. What finds no buffer is lost, since the backend would begin again with
 * the first of them. It is rare, and what was put together before may have to
 * be cut in the middle of it: hence a copy for each.
 */
bool labnic_vnet_cut(LabnicState *s, const uint8_t *bytes, size_t size,
                     const LabnicTso *tso)
{
    g_autofree uint8_t *copy = g_memdup2(bytes, size);
    size_t at, len;

    for (uint32_t n = 0; n < tso->segments; n++) {
        len = labnic_tso_segment(tso, copy, n, &at);
        if (!labnic_rx_frame(s, copy + at, len, NULL)) {
            labnic_rx_drop(s, len, LABNIC_COUNTER_RX_NO_BUFFER, "segment");
        }
    }
    return true;
}

/* A frame that is several segments */
static bool labnic_vnet_segments(LabnicState *s, const uint8_t *bytes,
                                 size_t size, const LabnicVnet *vnet)
{
    uint8_t kind = vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

    if ((kind != VIRTIO_NET_HDR_GSO_TCPV4 &&
         kind != VIRTIO_NET_HDR_GSO_TCPV6) || size > LABNIC_TSO_MAX ||
        labnic_tso_begin(&s->rx_tso, bytes, size, vnet->csum_start,
                         vnet->gso_size, false) != LABNIC_ERR_NONE) {
        labnic_rx_drop(s, size, LABNIC_COUNTER_RX_TOO_LONG, "no TCP segments");
        return true;
    }
    if (s->rx_tso.segments > 1 && s->drv_features & LABNIC_FEATURE_RX_GRO) {
        return labnic_rx_frame(s, bytes, size, &s->rx_tso);
    }
    return labnic_vnet_cut(s, bytes, size, &s->rx_tso);
}

/* From the backend, with the header; false when it is to keep the frame */
bool labnic_vnet_receive(LabnicState *s, const uint8_t *buf, size_t size)
{
    LabnicVnet vnet;

    if (size < LABNIC_VNET_LEN) {
        return true;
    }
    memcpy(&vnet, buf, sizeof(vnet));
    buf += LABNIC_VNET_LEN;
    size -= LABNIC_VNET_LEN;
    if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        return labnic_vnet_segments(s, buf, size, &vnet);
    }
    if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        return labnic_vnet_finish(s, buf, size, &vnet);
    }
    return labnic_rx_frame(s, buf, size, NULL);
}
