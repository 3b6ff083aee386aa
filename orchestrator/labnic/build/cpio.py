# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives that the kernel unpacks as its first root file system (cpio "newc"), the same bytes for the same content.

The format is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Node:
    """A member: ``mode`` with type bits, ``data`` a file's content or link's target, ``device`` (major, minor)."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(mode: int = 0o755) -> Node:
    """An empty directory."""
    return Node(stat.S_IFDIR | mode)


def file(data: bytes, mode: int = 0o644) -> Node:
    """A regular file."""
    return Node(stat.S_IFREG | mode, data)


def symlink(target: str) -> Node:
    """A symbolic link."""
    return Node(stat.S_IFLNK | 0o777, target.encode())


def character_device(major: int, minor: int, mode: int = 0o600) -> Node:
    """A character device; writing it into an archive needs no root."""
    return Node(stat.S_IFCHR | mode, device=(major, minor))


def tree(root: Path, below: str) -> dict[str, Node]:
    """Everything in the folder ``root``, as members whose names begin with ``below``; owners become root."""
    members: dict[str, Node] = {}
    for path in sorted(root.rglob("*")):
        name = f"{below}/{path.relative_to(root).as_posix()}".lstrip("/")
        if path.is_symlink():
            members[name] = symlink(str(path.readlink()))
        elif path.is_dir():
            members[name] = directory()
        else:
            members[name] = file(path.read_bytes(), 0o755 if path.stat().st_mode & 0o111 else 0o644)
    return members


def write(out: BinaryIO, members: Mapping[str, Node]) -> None:
    """Write an archive of ``members`` by name (no leading slash); missing parent directories are added.

    Several archives written one after the other are one root file system to the kernel.
    """
    everything = dict(members)
    for name in members:
        for parent in Path(name).parents:
            if str(parent) != ".":
                everything.setdefault(str(parent), directory())
    # The kernel does not make parents: sorted names put each directory before what it holds.
    for number, name in enumerate(sorted(everything), 1):
        _member(out, number, name, everything[name])
    _member(out, 0, "TRAILER!!!", Node(0))


def _member(out: BinaryIO, inode: int, name: str, node: Node) -> None:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(node.mode) else 1
    numbers = (inode, node.mode, 0, 0, links, 0, len(node.data), 0, 0, *node.device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
    out.write(head + b"\0" * (-len(head) % 4))
    out.write(node.data + b"\0" * (-len(node.data) % 4))
