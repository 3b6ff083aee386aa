/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The shared object that is preloaded into an unmodified QEMU.
 *
 * It holds none of the device. It asks the program that it finds itself in
 * which QEMU it is, and only when that is exactly the build whose headers the
 * device was compiled with does it load the device, labnic-device.so of the
 * same folder. The device's constructors then register its types and trace
 * events in the lists that QEMU's main() works through.
 *
 * The separation keeps the dynamic linker from failing over QEMU's symbols in
 * programs that are not QEMU, such as the helpers that QEMU starts and that
 * inherit the variable: there nothing happens at all.
 */
#include "qemu/osdep.h"
#include "qapi/qapi-types-control.h"
#include <dlfcn.h>
#include <elf.h>

#ifndef LABNIC_QEMU_BUILD
#error "LABNIC_QEMU_BUILD: what --version of the binary says, such as 7.2.22"
#endif

#define LABNIC_DEVICE "labnic-device.so"

typedef VersionInfo *LabnicQueryVersion(Error **errp);

/* The process is not worth a clean exit: nothing of QEMU has begun */
static void G_NORETURN G_GNUC_PRINTF(1, 2) labnic_refuse(const char *fmt, ...)
{
    va_list ap;

    fputs("labnic: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("; run 'labnic build qemu'\n", stderr);
    _exit(1);
}

/* The program's own name tells a QEMU that exports no symbols */
static bool labnic_named_qemu(void)
{
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    const char *name;

    if (len < 0) {
        return false;
    }
    path[len] = '\0';
    name = strrchr(path, '/');
    return name && !strncmp(name + 1, "qemu-system-", 12);
}

/* As --version prints it; the same memory serves until the process ends */
static const char *labnic_running_version(LabnicQueryVersion *query)
{
    static char version[256];
    VersionInfo *info = query(NULL);
    const char *package = info->package ? info->package : "";

    snprintf(version, sizeof(version), *package ? "%d.%d.%d (%s)" : "%d.%d.%d",
             (int)info->qemu->major, (int)info->qemu->minor,
             (int)info->qemu->micro, package);
    return version;
}

/* The headers and the binary can be of different releases, too */
static void labnic_check_version(LabnicQueryVersion *query)
{
    const char *running = labnic_running_version(query);
    size_t len = strlen(QEMU_VERSION);

    if (strcmp(running, LABNIC_QEMU_BUILD) != 0) {
        labnic_refuse("this QEMU is %s, the device was built for %s",
                      running, LABNIC_QEMU_BUILD);
    }
    if (strncmp(running, QEMU_VERSION, len) != 0 ||
        (running[len] != '\0' && running[len] != ' ')) {
        labnic_refuse("this QEMU is %s, the device was built with the headers "
                      "of " QEMU_VERSION, running);
    }
}

/*
 * Whether the file is all there. The dynamic linker trusts it and dies of a
 * signal when it is cut short; the section headers come last in the file.
 */
static bool labnic_complete(const char *path)
{
    Elf64_Ehdr header;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool complete;

    if (fd < 0) {
        return true;            /* dlopen() says why */
    }
    complete = read(fd, &header, sizeof(header)) == sizeof(header) &&
               !memcmp(header.e_ident, ELFMAG, SELFMAG) &&
               fstat(fd, &info) == 0 &&
               header.e_shoff <= (size_t)info.st_size &&
               (size_t)header.e_shnum * header.e_shentsize <=
               info.st_size - header.e_shoff;
    close(fd);
    return complete;
}

/* The device stands beside this file */
static void labnic_load_device(void)
{
    g_autofree char *folder = NULL;
    g_autofree char *path = NULL;
    Dl_info self;

    if (!dladdr(labnic_load_device, &self) || !self.dli_fname) {
        labnic_refuse("the folder of the plugin cannot be found");
    }
    folder = g_path_get_dirname(self.dli_fname);
    path = g_build_filename(folder, LABNIC_DEVICE, NULL);
    if (!labnic_complete(path)) {
        labnic_refuse("%s is not complete", path);
    }
    if (!dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
        labnic_refuse("the device does not load into this QEMU: %s",
                      dlerror());
    }
}

static void __attribute__((constructor)) labnic_guard(void)
{
    LabnicQueryVersion *query =
        (LabnicQueryVersion *)dlsym(RTLD_DEFAULT, "qmp_query_version");

    if (!query || !dlsym(RTLD_DEFAULT, "msix_init")) {
        if (labnic_named_qemu()) {
            labnic_refuse("this QEMU was built without modules and takes no "
                          "plugin");
        }
        return;
    }
    labnic_check_version(query);
    labnic_load_device();
}
