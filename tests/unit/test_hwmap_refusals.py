# SPDX-License-Identifier: GPL-2.0-or-later
"""A hardware map that breaks a rule is refused with the file and the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from labnic.errors import ConfigError
from labnic.hwmap import HwMapError, load

GOOD = """\
device:
  name: nic
  doc: A device.
  vendor_id: 0x1af4
  device_id: 0x10f0
  revision: 1
  class: 0x0200
  version: {major: 1, minor: 0}
bars:
  - {name: REGS, index: 0, size: 0x4000, doc: Registers.}
  - {name: MSIX, index: 4, size: 0x1000, doc: Vectors.}
constants:
  - {name: LIMIT, value: 16, doc: A limit.}
  - {name: ALIGN, value: 64, doc: An alignment.}
enums:
  - name: ERR
    doc: Why it failed.
    values:
      - {name: NONE, value: 0, doc: It did not.}
      - {name: SIZE, value: 1, doc: Wrong size.}
features:
  doc: Features.
  bits:
    - {name: RSS, bit: 0, doc: Spreading.}
    - {name: TSO, bit: 1, doc: Segmenting.}
blocks:
  - name: MAIN
    base: 0x0000
    size: 0x1000
    doc: The main block.
    registers:
      - {name: ID, offset: 0x0, access: ro, reset: 0x12345678, doc: Who it is.}
      - name: CTRL
        offset: 0x4
        access: rw
        doc: Control.
        fields:
          - {name: ENABLE, bits: 0, reset: 1, doc: On.}
          - {name: RESET, bits: 1, reset: 0, access: w1s, doc: Start anew.}
          - {name: MODE, bits: "7:4", reset: 3, doc: How.}
      - name: LIMITS
        offset: 0x8
        access: ro
        reset: 0x0210
        doc: Limits.
        fields:
          - {name: QUEUES, bits: "15:4", doc: Queues.}
      - {name: RING, offset: 0x10, width: 64, count: 2, access: rw, reset: 0, doc: Rings.}
    reserved:
      - {offset: 0x0c, size: 0x4, doc: For later.}
      - {offset: 0x20, size: 0xfe0, doc: For much later.}
  - name: QUEUE
    base: 0x1000
    size: 0x1000
    stride: 0x100
    count: 4
    doc: A queue.
    rest: For more queues.
    registers:
      - {name: HEAD, offset: 0x0, access: ro, reset: 0, doc: Head.}
      - {name: BELL, offset: 0x4, access: wo, reset: 0, doc: Bell.}
    reserved:
      - {offset: 0x8, size: 0xf8, doc: For moderation.}
  - name: COUNTERS
    base: 0x2000
    size: 0x1000
    doc: Counters.
    rest: For more counters.
    counters:
      - {name: rx_frames, doc: Frames received.}
      - {name: tx_frames, doc: Frames sent.}
reserved:
  - {offset: 0x3000, size: 0x1000, doc: For more.}
structures:
  - name: DESC
    size: 8
    doc: A descriptor.
    words:
      - {name: ADDR, doc: An address.}
      - name: FLAGS
        doc: Flags.
        fields:
          - {name: PHASE, bits: 0, doc: Whose it is.}
          - {name: LEN, bits: "31:16", doc: Length.}
faults:
  - {name: bell-lose, doc: A bell is not heard., event: a bell, takes: [queue]}
  - name: bell-late
    doc: A bell is heard late.
    event: a bell
    value: {unit: us, min: 1, max: 10, default: 5, doc: How late.}
audits:
  - {name: bell-early, doc: A bell before its time.}
  - {name: bell-wrong, doc: A wrong bell.}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "map.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str) -> HwMapError:
    with pytest.raises(HwMapError) as caught:
        load(write(folder, text))
    return caught.value


def test_the_example_itself_is_accepted(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD)).reg("BELL", 3).offset == 0x1304


# Each case: what is changed in the good map, by what, the text that stands in the line to be named, and the reason.
CASES = {
    "register overlaps register": (
        "CTRL\n        offset: 0x4",
        "CTRL\n        offset: 0x0",
        "- name: CTRL",
        "overlaps reg",
    ),
    "array overlaps reserved": (
        "count: 2, access",
        "count: 3, access",
        "offset: 0x20, size: 0xfe0",
        "overlaps register RING",
    ),
    "reserved overlaps register": ("0x0c, size: 0x4", "0x0c, size: 0x8", "name: RING", "overlaps the reserved space"),
    "reserved overlaps reserved": (
        "      - {offset: 0x20,",
        "      - {offset: 0x20, size: 0x8, doc: Twice.}\n      - {offset: 0x20,",
        "size: 0xfe0",
        "overlaps the reserved space",
    ),
    "block overlaps block": ("base: 0x2000", "base: 0x1000", "- name: COUNTERS", "overlaps block QUEUE"),
    "reserved overlaps block": (
        "0x3000, size: 0x1000",
        "0x2000, size: 0x2000",
        "offset: 0x2000, size",
        "overlaps block",
    ),
    "field overlaps field": ('MODE, bits: "7:4"', 'MODE, bits: "7:1"', "name: MODE", "overlaps field RESET"),
    "gap between registers": (
        "{name: BELL, offset: 0x4",
        "{name: BELL, offset: 0x8",
        "name: BELL",
        "gap in an element",
    ),
    "gap at the end of a block": ("0x20, size: 0xfe0", "0x20, size: 0xfd0", "size: 0xfd0", "gap in block MAIN: 0xff0"),
    "gap at the end of an element": (
        "0x8, size: 0xf8",
        "0x8, size: 0xf0",
        "size: 0xf0",
        "gap in an element of block QUEUE",
    ),
    "gap after the elements": (
        "    rest: For more queues.\n",
        "",
        "- name: QUEUE",
        "gap in block QUEUE: 0x400 to 0xfff",
    ),
    "gap after the counters": ("    rest: For more counters.\n", "", "name: tx_frames", "gap in block COUNTERS: 0x10"),
    "gap at the end of the BAR": ("0x3000, size: 0x1000", "0x3000, size: 0x800", "size: 0x800", "gap in BAR REGS"),
    "rest of nothing": (
        "doc: The main block.",
        "doc: The main block.\n    rest: None.",
        "- name: MAIN",
        "no room left",
    ),
    "beyond the block": (
        "0x20, size: 0xfe0",
        "0x20, size: 0xff0",
        "size: 0xff0",
        "beyond the 0x1000 bytes of block MAIN",
    ),
    "beyond the element": ("0x8, size: 0xf8", "0x8, size: 0x100", "0x8, size: 0x100", "beyond the 0x100 bytes"),
    "elements beyond the block": (
        "count: 4\n",
        "count: 17\n",
        "- name: QUEUE",
        "beyond the 0x1000 bytes of block QUEUE",
    ),
    "beyond the BAR": (
        "0x3000, size: 0x1000",
        "0x3000, size: 0x2000",
        "size: 0x2000",
        "beyond the 0x4000 bytes of BAR",
    ),
    "register at odd address": (
        "name: LIMITS\n        offset: 0x8",
        "name: LIMITS\n        offset: 0x9",
        "LIMITS",
        "misalig",
    ),
    "64 bits at 4": ("name: RING, offset: 0x10", "name: RING, offset: 0xc", "name: RING", "misaligned: offset 0xc"),
    "block not at a page": ("base: 0x1000", "base: 0x1800", "- name: QUEUE", "misaligned"),
    "reserved not a word": ("0x0c, size: 0x4", "0x0c, size: 0x3", "size: 0x3,", "misaligned"),
    "stride splits a register": ("stride: 0x100", "stride: 0x102", "- name: QUEUE", "misaligned: stride 0x102"),
    "stride without count": ("    count: 4\n", "", "- name: QUEUE", "stride and count go together"),
    "BAR of a strange size": ("size: 0x4000", "size: 0x5000", "name: REGS", "power of two"),
    "field beyond the register": ('bits: "15:4"', 'bits: "35:4"', "name: QUEUES", "goes to bit 35 of 32"),
    "field beyond the word": ('LEN, bits: "31:16"', 'LEN, bits: "32:16"', "name: LEN", "goes to bit 32 of 32"),
    "bits in the wrong order": ('bits: "15:4"', 'bits: "4:15"', "name: QUEUES", "high:low"),
    "bits that are no bits": (
        'bits: "15:4"',
        'bits: "15-4"',
        "name: QUEUES",
        "bits are the number of one bit or 'high:low', not '15-4'",
    ),
    "bits that are a list": ('bits: "15:4"', "bits: [15, 4]", "name: QUEUES", "bits must be"),
    "reset that is a word": ("reset: 0x0210", "reset: unknown", "reset: unknown", "reset must be a whole number"),
    "missing doc": ("doc: Who it is.}", "}", "name: ID", "'doc' is missing"),
    "empty doc": ("doc: Who it is.}", "doc: ''}", "name: ID", "doc sentence is empty"),
    "doc without a full stop": ("doc: Who it is.}", "doc: Who it is}", "name: ID", "full stop"),
    "doc that ends the comment": ("doc: Who it is.}", "doc: Who */ it is.}", "name: ID", "C comment"),
    "missing doc of a block": ("    doc: A queue.\n", "", "- name: QUEUE", "'doc' is missing"),
    "missing doc of a field": (", doc: Start anew.", "", "name: RESET", "'doc' is missing"),
    "missing doc of a word": ("ADDR, doc: An address.", "ADDR", "name: ADDR", "'doc' is missing"),
    "reset outside the fields": ("reset: 0x0210", "reset: 0x0211", "- name: LIMITS", "bits outside its mask 0xfff0"),
    "reset beyond 32 bits": ("0x12345678", "0x112345678", "name: ID", "bits outside its mask 0xffffffff"),
    "field reset too large": ('"7:4", reset: 3', '"7:4", reset: 16', "name: MODE", "larger than its 4 bits"),
    "field without a reset": ('"7:4", reset: 3', '"7:4"', "name: MODE", "MODE has no reset value"),
    "register without a reset": ("reset: 0, doc: Head.", "doc: Head.", "name: HEAD", "HEAD has no reset value"),
    "two resets": ('"15:4", doc', '"15:4", reset: 1, doc', "name: QUEUES", "although the register has one"),
    "reset of what reads as zero": ("reset: 0, access: w1s", "reset: 1, access: w1s", "name: RESET", "reads as zero"),
    "reset of a write-only one": ("reset: 0, doc: Bell.", "reset: 1, doc: Bell.", "name: BELL", "reads as zero"),
    "writable in read-only": ('"15:4", doc', '"15:4", access: rw, doc', "name: QUEUES", "cannot be rw"),
    "unknown key": ("reset: 0, doc: Head.", "reste: 0, doc: Head.", "name: HEAD", "unknown key 'reste'"),
    "unknown key at the top": ("structures:\n", "more: 1\nstructures:\n", "more: 1", "unknown key 'more'"),
    "line is no key": ("reset: 0, doc: Head.", "line: 0, doc: Head.", "name: HEAD", "unknown key 'line'"),
    "duplicate key": ("access: ro, reset: 0, doc: Head.", "access: ro, access: rw, doc: Head.", "name: HEAD", "twice"),
    "unknown access": (
        "offset: 0x0, access: ro, reset: 0,",
        "offset: 0x0, access: rx, reset: 0,",
        "name: HEAD",
        "access",
    ),
    "unknown width": ("width: 64", "width: 48", "name: RING", "width"),
    "text for a number": ("base: 0x2000", "base: high", "base: high", "must be a whole number, not 'high'"),
    "truth for a number": ("base: 0x2000", "base: true", "base: true", "must be a whole number"),
    "number for text": ("doc: A queue.", "doc: 5", "doc: 5", "must be text, not 5"),
    "mapping for a list": ("bars:\n", "bars: {}\nignored:\n", "bars: {}", "must be a list"),
    "negative": ("{name: LIMIT, value: 16", "{name: LIMIT, value: -1", "name: LIMIT", "value"),
    "name in small letters": ("name: BELL", "name: bell", "name: bell", "name"),
    "same register twice": ("name: BELL", "name: HEAD", "HEAD, offset: 0x4", "register HEAD is already on line"),
    "same constant twice": ("name: ALIGN", "name: LIMIT", "value: 64", "constant LIMIT is already on line"),
    "same field twice": ("name: MODE", "name: ENABLE", '"7:4"', "field of CTRL ENABLE is already on line"),
    "same block twice": (
        "name: COUNTERS",
        "name: QUEUE",
        "- name: QUEUE\n    base: 0x2000",
        "block QUEUE is already on line",
    ),
    "same counter twice": ("name: tx_frames", "name: rx_frames", "doc: Frames sent.", "counter rx_frames is already"),
    "same word twice": (
        "- name: FLAGS",
        "- name: ADDR",
        "- name: ADDR\n        doc: Flags",
        "word of structure DESC ADDR",
    ),
    "same enum value twice": ("name: SIZE, value: 1", "name: SIZE, value: 0", "name: SIZE", "has the number 0"),
    "same enum name twice": ("name: SIZE, value: 1", "name: NONE, value: 1", "value: 1,", "value of enum ERR NONE"),
    "same feature bit twice": ("TSO, bit: 1", "TSO, bit: 0", "name: TSO", "has the number 0"),
    "same BAR twice": ("MSIX, index: 4", "MSIX, index: 0", "name: MSIX", "has the number 0"),
    "structure of another size": ("size: 8\n", "size: 12\n", "- name: DESC", "12 bytes, its words 8"),
    "reset in memory": ("PHASE, bits: 0, doc", "PHASE, bits: 0, reset: 0, doc", "name: PHASE", "is in memory"),
    "registers and counters": (
        "    counters:\n",
        "    registers:\n      - {name: X, offset: 0, access: ro, reset: 0, doc: X.}\n    counters:\n",
        "- name: COUNTERS",
        "either registers or counters",
    ),
    "same fault twice": ("name: bell-late", "name: bell-lose", "bell-lose\n", "fault bell-lose is already on line"),
    "same rule twice": ("name: bell-wrong", "name: bell-early", "doc: A wrong", "audit rule bell-early is already"),
    "fault in capitals": ("name: bell-late", "name: BELL", "name: BELL\n", "name"),
    "fault without an event": (", event: a bell, takes", ", takes", "name: bell-lose", "'event' is missing"),
    "event that is a sentence": ("event: a bell, takes", "event: a. bell|, takes", "bell-lose", "plain ASCII"),
    "fault that takes anything": ("takes: [queue]", "takes: [cake]", "takes: [cake]", "takes"),
    "value upside down": ("min: 1, max: 10", "min: 11, max: 10", "unit: us", "min 11 is more than max 10"),
    "default out of range": ("default: 5", "default: 0", "unit: us", "default 0 is not in 1 to 10"),
    "not YAML": ("  name: nic", "  name: [nic", "doc: A device.", "not YAML"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_its_line(case: str, tmp_path: Path) -> None:
    old, new, marker, reason = CASES[case]
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    assert marker in text
    line = text[: text.index(marker)].count("\n") + 1
    error = refused(tmp_path, text)
    assert str(error).startswith(f"{tmp_path / 'map.yaml'}:{line}: "), str(error)
    assert reason in error.problem
    assert isinstance(error, ConfigError)
    assert error.exit_code == 2


def test_a_gap_names_what_to_write(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD.replace("0x0c, size: 0x4, doc: For later.", "0xffc, size: 0x4, doc: For later."))
    assert "0xc to 0xf" in error.problem
    assert "{offset: 0xc, size: 0x4, doc: ...}" in error.hint


def test_more_faults_than_bits_are_refused(tmp_path: Path) -> None:
    more = "".join(f"  - {{name: more-{number}, doc: More., event: more}}\n" for number in range(31))
    error = refused(tmp_path, GOOD.replace("audits:\n", f"{more}audits:\n"))
    assert "fault more-30 is one more than the 32" in error.problem


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(HwMapError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_empty_file(tmp_path: Path) -> None:
    assert refused(tmp_path, "# nothing\n").problem == "the file is empty"


def test_file_that_is_a_list(tmp_path: Path) -> None:
    assert "a mapping" in refused(tmp_path, "- 1\n").problem
