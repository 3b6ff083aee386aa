# SPDX-License-Identifier: GPL-2.0-or-later
"""The ring arithmetic and the memory of the Python driver, without a device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnic import hwmap
from labnic.registers import COUNT_MASK, GuestMemory, RingError
from labnic.rings import distance, passed, phase_of, with_bits

counts = st.integers(0, COUNT_MASK)


@given(event=counts, old=counts, step=st.integers(0, 4096))
def test_an_event_is_passed_exactly_when_the_count_steps_over_it(event: int, old: int, step: int) -> None:
    stepped_over = any((old + number) & COUNT_MASK == event for number in range(step))
    assert passed(event, old, (old + step) & COUNT_MASK) == stepped_over


def test_a_count_that_stands_still_passes_nothing() -> None:
    assert not any(passed(event, 5, 5) for event in range(10))


@given(old=counts, step=counts)
def test_distance_goes_over_the_wrap(old: int, step: int) -> None:
    assert distance(old, (old + step) & COUNT_MASK) == step


@given(index=counts, power=st.integers(6, 12))
def test_the_phase_is_one_in_even_laps_and_flips_at_each_wrap(index: int, power: int) -> None:
    size = 1 << power
    assert phase_of(index, size) == (0 if index & size else 1)
    assert phase_of(index, size) != phase_of(index + size, size)


def test_the_phase_goes_on_over_the_wrap_of_the_count() -> None:
    for power in range(6, 13):
        assert phase_of(COUNT_MASK + 1, 1 << power) == phase_of(0, 1 << power)


def test_memory_is_handed_out_aligned_and_once() -> None:
    memory = GuestMemory(None, 0x1001, 0x10000)
    pieces = [(memory.take(size, align), size) for size, align in ((10, 64), (100, 4096), (1, 1), (64, 128))]
    assert [address % align for (address, _), align in zip(pieces, (64, 4096, 1, 128), strict=True)] == [0] * 4
    ends = [address + size for address, size in pieces]
    assert all(end <= start for end, (start, _) in zip(ends, pieces[1:], strict=False))


def test_memory_that_is_used_up_is_an_error() -> None:
    memory = GuestMemory(None, 0, 128)
    memory.take(128)
    with pytest.raises(RingError, match="no 0x1 bytes"):
        memory.take(1)


def test_rewinding_gives_back_what_was_taken_after_the_mark() -> None:
    memory = GuestMemory(None, 0, 4096)
    memory.take(64)
    memory.mark()
    first = memory.take(64)
    memory.rewind()
    assert memory.take(64) == first


def test_extra_bits_are_added_to_the_word_that_is_named() -> None:
    layout = hwmap.load(hwmap.default_path()).struct("TX_DESC")
    raw = layout.pack({"LEN.BYTES": 5, "FLAGS.PHASE": 1})
    changed = with_bits(layout, raw, {"LEN": 0x8000_0000})
    assert layout.raw(changed) == (0, 0, 0x8000_0005, 1)
