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
#define PLACES (1 << 19)

/* Bytes of code that are one place: as functions are aligned. */
#define PLACE_SIZE 16

/* Places after one that is taken that are tried, before nobody counts it. */
#define TRIES 64

/* A place and a number of instructions in the pointer that a callback gets. */
#define NUMBER_BITS 12

typedef struct Range {
    uint64_t base;
    uint64_t size;
    uint64_t reads;
    uint64_t writes;
} Range;

typedef struct Place {
    uint64_t address;
    uint64_t instructions;
} Place;

typedef struct Shared {
    uint64_t program[CPUS];
    uint64_t kernel[CPUS];
    Range ranges[RANGES];
    Place places[PLACES];       /* of the kernel; the first is all the others */
} Shared;

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static Shared *shared;

/* Each virtual CPU has a counter of its own. */
static void count_program(unsigned cpu, void *number)
{
    shared->program[cpu] += (uintptr_t)number;
}

static void count_kernel(unsigned cpu, void *where)
{
    uintptr_t number = (uintptr_t)where & ((1 << NUMBER_BITS) - 1);

    shared->kernel[cpu] += number;
    shared->places[(uintptr_t)where >> NUMBER_BITS].instructions += number;
}

/* Two processors may find the same one free, and one of them then loses it. */
static size_t find_place(uint64_t address)
{
    uint64_t start = address & ~(uint64_t)(PLACE_SIZE - 1);
    size_t i, at = start / PLACE_SIZE * 0x9e3779b97f4a7c15 >> 45;

    for (i = 0; i < TRIES; i++, at = (at + 1) % PLACES) {
        Place *place = &shared->places[at];

        if (at && !place->address) {
            place->address = start;
        }
        if (place->address == start) {
            return at;
        }
    }
    return 0;
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
    uintptr_t what = count;

    if (kernel) {
        what |= find_place(qemu_plugin_tb_vaddr(tb)) << NUMBER_BITS;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(
        tb, kernel ? count_kernel : count_program, QEMU_PLUGIN_CB_NO_REGS,
        (void *)what);
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
