# SPDX-License-Identifier: GPL-2.0-or-later
"""What is generated from the hardware map: compiled, compared with the map, and compared with what is checked in."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labnic import gen
from labnic.errors import ConfigError
from labnic.hwmap import FaultKind, HwMap, default_path, load

HW = load(default_path())
HEADER = gen.generate(HW)[gen.HEADER]
LISTS = ("LABNIC_COUNTERS", "LABNIC_FAULTS", "LABNIC_AUDITS")


def expected(hw: HwMap) -> Iterator[tuple[str, int]]:
    """C expressions and what they must be, from the model and not from the generator."""
    yield from ((f"LABNIC_{name}", value) for name, value in hw.constants.items())
    yield from ((f"LABNIC_FEATURE_{name}", value) for name, value in hw.features.items())
    for enum in hw.enums:
        yield from ((f"LABNIC_{enum.name}_{name}", value) for name, value in enum.values.items())
        yield f"LABNIC_{enum.name}__END", 1 + max(value for _, value in enum.values.items())
    for number, name in enumerate(hw.counters):
        yield f"LABNIC_COUNTER_{name.upper()}", number
        yield f"LABNIC_REG_COUNTER(LABNIC_COUNTER_{name.upper()})", hw.reg(name).offset
        yield f"LABNIC_REG_COUNTER_HI({number})", hw.reg(name).offset + 4
    yield "LABNIC_N_COUNTERS", len(hw.counters)
    yield from ((f"LABNIC_FAULT_{fault.symbol}", number) for number, fault in enumerate(hw.faults))
    yield "LABNIC_N_FAULTS", len(hw.faults)
    yield from ((f"LABNIC_AUDIT_{rule.symbol}", number) for number, rule in enumerate(hw.audits))
    yield "LABNIC_N_AUDITS", len(hw.audits)
    for place in hw.registers():
        if place.counter:
            continue
        name = place.register.name
        indices = ", ".join(str(number) for number in (place.element, place.index) if number is not None)
        call = f"({indices})" if indices else ""
        yield f"LABNIC_REG_{name}{call}", place.offset
        if place.size == 8:
            yield f"LABNIC_REG_{name}_HI{call}", place.offset + 4
        yield f"LABNIC_RW_{name}", place.writable
        if place.reset is not None:
            yield f"LABNIC_INIT_{name}", place.reset
        for access, mask in (("W1C", place.w1c), ("W1S", place.w1s)):
            if mask:
                yield f"LABNIC_{access}_{name}", mask
        yield from ((f"LABNIC_{name}_{field.name}", field.mask) for field in place.register.fields)
    for block in hw.blocks:
        yield f"LABNIC_BLOCK_{block.name}_BASE", block.base
        yield f"LABNIC_BLOCK_{block.name}_SIZE", block.size
        yield f"LABNIC_BLOCK_{block.name}_USED", block.used
        if block.stride is not None and block.count is not None:
            yield f"LABNIC_BLOCK_{block.name}_STRIDE", block.stride
            yield f"LABNIC_BLOCK_{block.name}_COUNT", block.count
    for bar in hw.bars:
        yield f"LABNIC_BAR_{bar.name}", bar.index
        yield f"LABNIC_BAR_{bar.name}_SIZE", bar.size
    for structure in hw.structures:
        kind = f"labnic_{structure.name.lower()}"
        yield f"sizeof(struct {kind})", structure.size
        yield f"LABNIC_{structure.name}_SIZE", structure.size
        for word in structure.words:
            yield f"offsetof(struct {kind}, {word.name.lower()})", word.offset
            if word.fields:
                yield f"LABNIC_{structure.name}_{word.name}__ALL", word.defined
            for field in word.fields:
                yield f"LABNIC_{structure.name}_{word.name}_{field.name}", field.mask
    device = hw.device
    yield "LABNIC_VENDOR_ID", device.vendor_id
    yield "LABNIC_DEVICE_ID", device.device_id
    yield "LABNIC_REVISION", device.revision
    yield "LABNIC_PCI_CLASS", device.pci_class
    yield "LABNIC_MAP_MAJOR", device.major
    yield "LABNIC_MAP_MINOR", device.minor


PROGRAM = """\
#include <stddef.h>
#include <stdio.h>
#include "labnic_hw.h"
#define NAME(name) #name,
static const char *const names[] = { LABNIC_COUNTERS(NAME) };
#define FAULT(id, name, takes, value, min, max, initial) \
    printf("%d %s %d %d %lld %lld %lld\\n", LABNIC_FAULT_##id, name, takes, value, \
           (long long)min, (long long)max, (long long)initial);
#define RULE(id, name) printf("%d %s\\n", LABNIC_AUDIT_##id, name);
int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        LABNIC_FAULTS(FAULT)
        LABNIC_AUDITS(RULE)
        return 0;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        printf("%s\\n", names[i]);
    }
@PRINTS@
    return 0;
}
"""


def test_header_compiles_and_says_what_the_map_says(tmp_path: Path) -> None:
    wanted = dict(expected(HW))
    prints = "\n".join(f'    printf("%llu\\n", (unsigned long long)({name}));' for name in wanted)
    (tmp_path / "labnic_hw.h").write_text(HEADER)
    source = tmp_path / "numbers.c"
    source.write_text(PROGRAM.replace("@PRINTS@", prints))
    program = tmp_path / "numbers"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Wundef", "-Werror", "-I", str(tmp_path)]
    subprocess.run(["gcc", *flags, "-o", str(program), str(source)], check=True, timeout=60)
    out = subprocess.run([str(program)], check=True, timeout=10, capture_output=True, text=True).stdout.split()
    count = len(HW.counters)
    assert tuple(out[:count]) == HW.counters
    assert dict(zip(wanted, map(int, out[count:]), strict=True)) == wanted
    out = subprocess.run([str(program), "faults"], check=True, timeout=10, capture_output=True, text=True).stdout
    rules = [f"{number} {rule.name}" for number, rule in enumerate(HW.audits)]
    assert out.splitlines() == [fault_row(number, fault) for number, fault in enumerate(HW.faults)] + rules


def fault_row(number: int, fault: FaultKind) -> str:
    """A fault as the program prints it."""
    takes = sum(bit for name, bit in {"queue": 1, "misc": 2, "register": 4}.items() if name in fault.takes)
    words = [number, fault.name, takes + 8 * fault.lasting]
    if fault.value:
        needed = fault.value.default is None
        return " ".join(map(str, [*words, 1 + needed, fault.value.min, fault.value.max, fault.value.default or 0]))
    return " ".join(map(str, [*words, 0, 0, 0, 0]))


def test_every_define_of_the_header_is_known_to_the_map() -> None:
    known = {re.split(r"[(]", name)[0] for name, _ in expected(HW)} | {"LABNIC_HW_H", *LISTS}
    assert set(re.findall(r"^#define (\w+)", HEADER, re.MULTILINE)) <= known


def test_masks_of_64_bit_registers_have_64_bit_type() -> None:
    assert re.search(r"^#define LABNIC_MAC_ADDR +0xffffffffffffULL$", HEADER, re.MULTILINE)
    assert re.search(r"^#define LABNIC_CTRL_ENABLE +0x1$", HEADER, re.MULTILINE)


def test_header_keeps_to_80_columns() -> None:
    assert [line for line in HEADER.splitlines() if len(line.expandtabs(8)) > 80] == []


def test_generated_files_say_so_and_carry_their_licence() -> None:
    for text in gen.generate(HW).values():
        assert "SPDX-License-Identifier: GPL-2.0-or-later" in text.splitlines()[0]
        assert "do not edit" in "\n".join(text.splitlines()[:8])


def test_reference_names_every_register_field_counter_and_word() -> None:
    text = gen.generate(HW)[gen.REFERENCE]
    for place in HW.registers():
        assert f"`{place.register.name}" in text, place.name
        assert place.register.doc in text, place.name
        assert all(f"| `{field.name}` |" in text and field.doc in text for field in place.register.fields), place.name
    for structure in HW.structures:
        assert f"### {structure.name}\n" in text
        assert all(word.doc in text for word in structure.words)


def test_reference_names_every_fault_with_its_arguments() -> None:
    text = gen.generate(HW)[gen.REFERENCE]
    for fault in HW.faults:
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{fault.name}` |"))
        assert fault.doc in row
        assert all(f"`{name}`" in row for name in fault.takes)
        assert (fault.value is None) == ("`value`" not in row)


def test_reference_names_every_rule_of_the_audit() -> None:
    text = gen.generate(HW)[gen.REFERENCE]
    assert all(f"| `{rule.name}` | {rule.doc} |" in text for rule in HW.audits)


def test_two_things_with_one_c_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    clash = "constants:\n  - {name: CTRL_ENABLE, value: 1, doc: Clashes with a field.}\n"
    path.write_text(default_path().read_text().replace("constants:\n", clash, 1))
    with pytest.raises(ConfigError, match="LABNIC_CTRL_ENABLE"):
        gen.generate(load(path))


def tree(folder: Path) -> Path:
    """A source tree with the map alone."""
    (folder / gen.SPEC).parent.mkdir(parents=True)
    shutil.copy(default_path(), folder / gen.SPEC)
    return folder


def test_what_is_checked_in_is_what_is_generated(capsys: pytest.CaptureFixture[str]) -> None:
    assert gen.main(check=True) == 0, capsys.readouterr().out


def test_generating_writes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path)
    assert gen.main(directory=root) == 0
    assert capsys.readouterr().out == "wrote qemu-device/include/labnic_hw.h\nwrote docs/registers.md\n"
    assert gen.main(directory=root) == 0
    assert capsys.readouterr().out == ""
    assert gen.main(check=True, directory=root) == 0
    assert sorted(path.name for path in (root / gen.HEADER).parent.iterdir()) == ["labnic_hw.h"]


def test_an_edited_header_is_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path)
    gen.main(directory=root)
    header = root / gen.HEADER
    edited = header.read_text().replace("LABNIC_RING_MIN 64", "LABNIC_RING_MIN 32")
    header.write_text(edited)
    capsys.readouterr()
    assert gen.main(check=True, directory=root) == 1
    out = capsys.readouterr()
    assert "-#define LABNIC_RING_MIN 32" in out.out
    assert "+#define LABNIC_RING_MIN 64" in out.out
    assert "make gen" in out.err
    assert header.read_text() == edited


def test_an_edited_map_is_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path)
    gen.main(directory=root)
    spec = root / gen.SPEC
    spec.write_text(spec.read_text().replace("RING_MIN, value: 64", "RING_MIN, value: 128"))
    assert gen.main(check=True, directory=root) == 1
    assert "+| `128` | `RING_MIN`" in capsys.readouterr().out


def test_a_missing_file_is_drift(tmp_path: Path) -> None:
    root = tree(tmp_path)
    gen.main(directory=root)
    (root / gen.REFERENCE).unlink()
    assert gen.main(check=True, directory=root) == 1


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail(self: Path, other: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        gen.write(tmp_path, {Path("file"): "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}
