# SPDX-License-Identifier: GPL-2.0-or-later
"""The hardware map of the project, and the model through which Python sees it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnic.hwmap import Field, HwMap, Structure, default_path, load

HW = load(default_path())

STRUCTURES = pytest.mark.parametrize("structure", HW.structures, ids=[one.name for one in HW.structures])
FIELDS = [field for place in HW.registers() for field in place.register.fields]


def test_registers_fill_their_blocks_without_overlap() -> None:
    bar = HW.bar("REGS")
    end = 0
    for place in HW.registers():
        assert place.offset >= end, place.name
        assert place.offset % place.size == 0, place.name
        end = place.offset + place.size
    assert end <= bar.size


def test_every_register_is_found_by_its_name() -> None:
    for place in HW.registers():
        indices = [number for number in (place.element, place.index) if number is not None]
        assert HW.reg(place.register.name, *indices) == place


def test_places_of_single_strided_array_and_counter_registers() -> None:
    assert HW.reg("CTRL").offset == 0x10
    assert HW.reg("CTRL").name == "CTRL"
    assert HW.reg("TX_BASE", 3).offset == 0x4300
    assert HW.reg("TX_BASE", 3).name == "TX_BASE[3]"
    assert (HW.reg("RSS_KEY", 9).offset, HW.reg("RSS_KEY", 9).size) == (0xA4, 4)
    assert (HW.reg("ADDR_SLOT", 1).offset, HW.reg("ADDR_SLOT", 1).size) == (0x1008, 8)
    assert HW.reg(HW.counters[2]).offset == 0x2000 + 2 * 8


@pytest.mark.parametrize("wanted", [("NOTHING",), ("TX_BASE",), ("TX_BASE", 16), ("CTRL", 0), ("RSS_KEY", 10)])
def test_an_unknown_register_is_a_key_error(wanted: tuple[Any, ...]) -> None:
    with pytest.raises(KeyError, match=wanted[0]):
        HW.reg(*wanted)


def test_masks_follow_the_access_of_the_fields() -> None:
    ctrl = HW.reg("CTRL")
    enable, reset = ctrl.field("ENABLE").mask, ctrl.field("RESET").mask
    assert (ctrl.writable, ctrl.w1s, ctrl.w1c, ctrl.readable) == (enable, reset, 0, enable)
    cause = HW.reg("MISC_CAUSE")
    assert (cause.writable, cause.w1c) == (0, cause.defined)
    assert (HW.reg("TX_DOORBELL", 0).readable, HW.reg("TX_DOORBELL", 0).writable) == (0, 0)
    assert HW.reg("TX_BASE", 0).writable == 2**64 - 1
    assert HW.reg("ID").writable == 0


def test_reset_values_come_from_register_or_fields() -> None:
    assert HW.reg("ID").reset == int.from_bytes(b"LABN", "little")
    assert HW.reg("VERSION").reset == HW.device.major << 16 | HW.device.minor
    assert HW.reg("MAC").reset is None
    assert all(HW.reg(name).reset is None for name in HW.counters)


def test_reset_bits_can_be_read() -> None:
    for place in HW.registers():
        assert (place.reset or 0) & ~place.readable == 0, place.name


def test_the_map_agrees_with_its_constants() -> None:
    constants = HW.constants
    limits = HW.reg("LIMITS").split(HW.reg("LIMITS").reset or 0)
    assert limits == {"QUEUES": constants.DEFAULT_QUEUES, "VECTORS": constants.DEFAULT_QUEUES + 1}
    assert HW.block("QUEUE").count == HW.block("DOORBELL").count == constants.MAX_QUEUES
    assert HW.reg("ADDR_SLOT", 0).register.count == constants.ADDR_SLOTS
    assert HW.reg("RSS_KEY", 0).register.span == constants.RSS_KEY_SIZE
    assert HW.reg("RSS_TABLE", 0).register.span == constants.RSS_TABLE_SIZE
    assert HW.struct("STATUS_BLOCK").size == constants.STATUS_BLOCK_ALIGN
    assert HW.reg("MAX_FRAME").field("LEN").limit >= constants.FRAME_MAX
    assert HW.reg("TX_SIZE", 0).field("ENTRIES").limit >= constants.RING_MAX


def test_features_and_enums_agree_with_the_fields_that_hold_them() -> None:
    assert (HW.reg("DEV_FEATURES").reset or 0) & ~sum(HW.features.values()) == 0
    assert {field.name: field.mask for field in HW.reg("DRV_FEATURES").register.fields} == dict(HW.features)
    assert max(HW.enum("ERR").values()) <= HW.reg("TX_STATUS", 0).field("ERROR").limit
    assert max(HW.enum("HASH").values()) <= HW.struct("RX_CMPL").field("FLAGS.HASH_TYPE").limit
    assert {field.name for field in HW.reg("RSS_CTRL").register.fields} == set(HW.enum("HASH")) - {"NONE"}


def test_names_give_numbers_and_back() -> None:
    errors = HW.enum("ERR")
    assert errors.DMA_READ == errors["DMA_READ"] == 3
    assert errors.name_of(3) == "DMA_READ"
    assert errors.name_of(200) == "0xc8"
    with pytest.raises(AttributeError, match="enum ERR has no NOTHING; it has NONE"):
        _ = errors.NOTHING


def test_names_can_be_copied() -> None:
    assert dict(copy.deepcopy(HW.constants)) == dict(HW.constants)


def test_an_unknown_field_names_those_that_exist() -> None:
    with pytest.raises(KeyError, match="CTRL has no field GO; it has ENABLE, RESET"):
        HW.reg("CTRL").field("GO")


def test_the_map_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        HW.reg("CTRL").offset = 0  # type: ignore[misc]


@given(st.sampled_from(FIELDS), st.integers(0, 2**64 - 1), st.data())
def test_a_field_keeps_its_value_and_the_other_bits(field: Field, word: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, field.limit))
    changed = field.put(value, word)
    assert field.get(changed) == value
    assert changed & ~field.mask == word & ~field.mask


@given(st.sampled_from(FIELDS), st.integers(1, 2**64))
def test_a_value_too_large_for_its_field_is_refused(field: Field, beyond: int) -> None:
    with pytest.raises(ValueError, match=field.name):
        field.put(field.limit + beyond)


def test_value_and_split_are_inverse() -> None:
    link = HW.reg("LINK")
    assert link.split(link.value(UP=1, SPEED=10000)) == {"UP": 1, "FULL_DUPLEX": 0, "SPEED": 10000}


def values(structure: Structure) -> st.SearchStrategy[dict[str, int]]:
    """Any values of all the names that ``unpack`` gives."""
    limits = dict.fromkeys(structure.unpack(bytes(structure.size)), 2**32 - 1)
    limits |= {f"{word.name}.{field.name}": field.limit for word in structure.words for field in word.fields}
    return st.fixed_dictionaries({name: st.integers(0, limit) for name, limit in limits.items()})


@STRUCTURES
@given(data=st.data())
def test_pack_and_unpack_are_inverse(structure: Structure, data: st.DataObject) -> None:
    chosen = data.draw(values(structure))
    packed = structure.pack(chosen)
    assert len(packed) == structure.size
    assert structure.unpack(packed) == chosen


@STRUCTURES
@given(data=st.data())
def test_raw_words_pack_to_the_same_bytes(structure: Structure, data: st.DataObject) -> None:
    packed = data.draw(st.binary(min_size=structure.size, max_size=structure.size))
    words = structure.raw(packed)
    whole = {}
    for word in structure.words:
        if word.count is None:
            whole[word.name] = words[word.index]
        else:
            whole |= {f"{word.name}[{place}]": words[word.index + place] for place in range(word.count)}
    assert structure.pack(whole) == packed


def test_bytes_of_a_descriptor_are_little_endian() -> None:
    packed = HW.struct("TX_DESC").pack({"ADDR_LO": 0x11223344, "LEN.BYTES": 60, "FLAGS.PHASE": 1, "FLAGS.EOP": 1})
    assert packed == bytes.fromhex("44332211 00000000 3c000000 03000000")


def test_reserved_bits_can_be_set_through_the_whole_word() -> None:
    packed = HW.struct("TX_DESC").pack({"FLAGS": 0x80000000, "FLAGS.PHASE": 1})
    assert HW.struct("TX_DESC").raw(packed)[3] == 0x80000001


@pytest.mark.parametrize("name", ["NOTHING", "FLAGS.NOTHING", "FLAGS[0]", "ADDR_LO.X"])
def test_an_unknown_name_in_a_structure_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        HW.struct("TX_DESC").pack({name: 0})


@pytest.mark.parametrize("name", ["DEVICE_RESERVED", "DEVICE_RESERVED[13]", "DEVICE_RESERVED[x]", "DEVICE_RESERVED[0"])
def test_a_wrong_place_in_an_array_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        HW.struct("STATUS_BLOCK").pack({name: 0})


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        HW.struct("TX_DESC").unpack(bytes(15))
    with pytest.raises(ValueError, match="does not fit"):
        HW.struct("TX_DESC").pack({"ADDR_LO": 2**32})


def test_counters_are_named_as_ethtool_shows_them() -> None:
    assert len(HW.counters) == len(set(HW.counters)) > 0
    assert all(name == name.lower() for name in HW.counters)
    assert isinstance(HW, HwMap)
