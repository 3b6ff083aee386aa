# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lab is built from: each function is pure in the hash of its inputs, and its result lies in the cache."""

from labnic.build.cache import PROJECT, Cache, JsonValue
from labnic.build.driver import Driver, Module, build_driver, build_module, build_observer
from labnic.build.image import DRIVER_IN_GUEST, build_image, guest_cmdline
from labnic.build.kernel import checkpatch, fetch_kernel
from labnic.build.kerneltable import Kernel, kernel_entry, kernel_table
from labnic.build.progress import PlainProgress, Progress
from labnic.build.qemu import QemuBuild, build_qemu

__all__ = [
    "DRIVER_IN_GUEST",
    "PROJECT",
    "Cache",
    "Driver",
    "JsonValue",
    "Kernel",
    "Module",
    "PlainProgress",
    "Progress",
    "QemuBuild",
    "build_driver",
    "build_image",
    "build_module",
    "build_observer",
    "build_qemu",
    "checkpatch",
    "fetch_kernel",
    "guest_cmdline",
    "kernel_entry",
    "kernel_table",
]
