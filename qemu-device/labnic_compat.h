/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Differences between the QEMU versions that the device builds with, 7.2 to
 * 10.0; the only file of the device with an #if on a version. The other
 * sources read as if only the newest version existed.
 */
#ifndef LABNIC_COMPAT_H
#define LABNIC_COMPAT_H

#define LABNIC_QEMU_AT_LEAST(major, minor) \
    (QEMU_VERSION_MAJOR > (major) || \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

#if !LABNIC_QEMU_AT_LEAST(7, 2)
#error "labnic needs QEMU 7.2 or newer"
#endif

/* "include/hw/pci: Split pci_device.h off pci.h", QEMU 8.0 */
#if LABNIC_QEMU_AT_LEAST(8, 0)
#include "hw/pci/pci_device.h"
#else
#include "hw/pci/pci.h"
#endif

/* "include: Rename sysemu/ -> system/", QEMU 10.0 */
#if LABNIC_QEMU_AT_LEAST(10, 0)
#include "system/runstate.h"
#else
#include "sysemu/runstate.h"
#endif

/*
 * "async: Add an optional reentrancy guard to the BH API", QEMU 8.1 and the
 * stable branches. Being a macro it needs no version; without it the device's
 * own guard remains.
 */
#include "qemu/main-loop.h"
#ifndef qemu_bh_new_guarded
#define qemu_bh_new_guarded(cb, opaque, guard) qemu_bh_new(cb, opaque)
#endif

/*
 * "net: Provide MemReentrancyGuard * to qemu_new_nic()", QEMU 8.2 and 7.2.8 of
 * the stable branch.
 */
#include "net/net.h"
#if !LABNIC_QEMU_AT_LEAST(8, 2) && \
    !(QEMU_VERSION_MAJOR == 7 && QEMU_VERSION_MICRO >= 8)
#define qemu_new_nic(info, conf, model, name, guard, opaque) \
    qemu_new_nic(info, conf, model, name, opaque)
#endif

/*
 * "net: Remove flag propagation" and "net: Move virtio-net-specific flag
 * handling", QEMU 9.0: whoever sets the length of the header uses it.
 */
static inline void labnic_use_vnet_hdr(NetClientState *peer, int len)
{
    qemu_set_vnet_hdr_len(peer, len);
#if !LABNIC_QEMU_AT_LEAST(9, 0)
    qemu_using_vnet_hdr(peer, true);
#endif
}

/*
 * "tap: Add USO support to tap device.", QEMU 8.2: one more kind of
 * segments for each version of IP.
 */
static inline void labnic_set_offload(NetClientState *peer, bool on)
{
#if LABNIC_QEMU_AT_LEAST(8, 2)
    qemu_set_offload(peer, on, on, on, on, false, false, false);
#else
    qemu_set_offload(peer, on, on, on, on, false);
#endif
}

/*
 * "hw/core/reset: Add a ResetType argument to the hold and exit phase
 * methods", QEMU 9.1.
 */
#if LABNIC_QEMU_AT_LEAST(9, 1)
#define LABNIC_RESET_ARGS Object *obj, ResetType type
#else
#define LABNIC_RESET_ARGS Object *obj
#endif

/*
 * "include/hw/qdev-properties: Remove DEFINE_PROP_END_OF_LIST", QEMU 10.0,
 * with which the arrays of properties became constant.
 */
#if LABNIC_QEMU_AT_LEAST(10, 0)
#define LABNIC_PROPERTY const Property
#define LABNIC_PROPERTIES_END
#else
#define LABNIC_PROPERTY Property
#define LABNIC_PROPERTIES_END DEFINE_PROP_END_OF_LIST()
#endif

/*
 * "qom: Make class_init take a const data pointer" and "qom: Make InterfaceInfo
 * arrays const", QEMU 10.1.
 */
#if LABNIC_QEMU_AT_LEAST(10, 1)
#define LABNIC_CLASS_DATA const void *
#define LABNIC_INTERFACES const InterfaceInfo
#else
#define LABNIC_CLASS_DATA void *
#define LABNIC_INTERFACES InterfaceInfo
#endif

#endif
