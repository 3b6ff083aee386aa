// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A plugin for QEMU's TCG that counts what frames cost the guest: instructions
 * of the kernel and of programs, and accesses to the registers of NICs.
 *
 *   -plugin count.so,counts=FILE
 *
 * FILE, which exists and has the size of struct Shared, is shared with whoever
 * wants to know. He writes into it the ranges of physical addresses that are
 * watched, once the guest has given them to the NICs.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <qemu-plugin.h>

#define OPTION "counts="

/* As in counter.py. */
#define CPUS 8
#define RANGES 64

typedef struct Range {
    uint64_t base;
    uint64_t size;
    uint64_t reads;
    uint64_t writes;
} Range;

typedef struct Shared {
    uint64_t program[CPUS];
    uint64_t kernel[CPUS];
    Range ranges[RANGES];
} Shared;

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static Shared *shared;

/* Each virtual CPU has a counter of its own. */
static void count_program(unsigned cpu, void *number)
{
    shared->program[cpu] += (uintptr_t)number;
}

static void count_kernel(unsigned cpu, void *number)
{
    shared->kernel[cpu] += (uintptr_t)number;
}

static void count_access(unsigned cpu, qemu_plugin_meminfo_t info,
                         uint64_t vaddr, void *unused)
{
    struct qemu_plugin_hwaddr *where = qemu_plugin_get_hwaddr(info, vaddr);
    uint64_t at;
    size_t i;

    if (!where || !qemu_plugin_hwaddr_is_io(where)) {
        return;
    }
    at = qemu_plugin_hwaddr_phys_addr(where);
    for (i = 0; i < RANGES && shared->ranges[i].size; i++) {
        Range *range = &shared->ranges[i];

        if (at - range->base < range->size) {
            __atomic_fetch_add(qemu_plugin_mem_is_store(info) ? &range->writes
                                                              : &range->reads,
                               1, __ATOMIC_RELAXED);
            return;
        }
    }
}

/* The kernel is in the upper half of the addresses, and so are its accesses. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    bool kernel = qemu_plugin_tb_vaddr(tb) >> 63;
    size_t i, count = qemu_plugin_tb_n_insns(tb);

    qemu_plugin_register_vcpu_tb_exec_cb(
        tb, kernel ? count_kernel : count_program, QEMU_PLUGIN_CB_NO_REGS,
        (void *)(uintptr_t)count);
    for (i = 0; kernel && i < count; i++) {
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i),
                                         count_access, QEMU_PLUGIN_CB_NO_REGS,
                                         QEMU_PLUGIN_MEM_RW, NULL);
    }
}

static void *map(const char *path)
{
    struct stat status;
    void *at = MAP_FAILED;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd >= 0 && fstat(fd, &status) == 0 &&
        status.st_size == sizeof(Shared)) {
        at = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                  0);
    }
    if (fd >= 0) {
        close(fd);
    }
    return at == MAP_FAILED ? NULL : at;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
                                           const qemu_info_t *info, int argc,
                                           char **argv)
{
    if (!info->system_emulation || info->system.max_vcpus > CPUS) {
        fprintf(stderr, "count: a machine with up to %d CPUs, please\n", CPUS);
        return -1;
    }
    if (argc != 1 || strncmp(argv[0], OPTION, strlen(OPTION)) != 0) {
        fprintf(stderr, "count: " OPTION "FILE is missing\n");
        return -1;
    }
    shared = map(argv[0] + strlen(OPTION));
    if (!shared) {
        fprintf(stderr, "count: %s cannot be used\n", argv[0] + strlen(OPTION));
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
