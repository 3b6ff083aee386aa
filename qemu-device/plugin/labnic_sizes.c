/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The second look at the QEMU that the device was loaded into, once its types
 * are known: the types that the device's state is made of must have the size
 * that they had when it was compiled. A build with another configuration could
 * differ although it calls itself by the same version.
 *
 * MODULE_INIT_MIGRATION is what QEMU runs right after the types have been
 * registered, and before anything is made of them.
 */
#include "qemu/osdep.h"
#include "qemu/module.h"
#include "labnic.h"

static void labnic_check_size(const char *type, size_t built)
{
    size_t running = object_type_get_instance_size(type);

    if (running != built) {
        fprintf(stderr, "labnic: in this QEMU the type %s has %zu bytes, the "
                "device was built for %zu; run 'labnic build qemu'\n",
                type, running, built);
        _exit(1);
    }
}

static void labnic_check_sizes(void)
{
    labnic_check_size(TYPE_OBJECT, sizeof(Object));
    labnic_check_size(TYPE_DEVICE, sizeof(DeviceState));
    labnic_check_size(TYPE_PCI_DEVICE, sizeof(PCIDevice));
    labnic_check_size(TYPE_MEMORY_REGION, sizeof(MemoryRegion));
}

migration_init(labnic_check_sizes)
