# SPDX-License-Identifier: GPL-2.0-or-later
"""The file format of the hardware map: YAML in, typed records with line numbers out.

Only the shape is judged here (keys, types, names, sentences); whether the registers fit together is for
:mod:`labnic.hw.rules`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic import Field as Limits
from pydantic_core import ErrorDetails

from labnic.errors import ConfigError


class HwMapError(ConfigError):
    """The hardware map cannot be used; the message begins with ``file:line:``."""

    def __init__(self, path: Path, line: int, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{path}:{line}: {problem}", hint=hint)
        self.path = path
        self.line = line
        self.problem = problem


def _sentence(text: str) -> str:
    if not text.strip():
        raise ValueError("the doc sentence is empty")
    if text != text.strip() or not text.endswith("."):
        raise ValueError("a doc sentence ends with a full stop")
    if "*/" in text or "|" in text or not text.isascii():
        raise ValueError("a doc sentence is plain ASCII without '*/' and '|', for it goes into a C comment and a table")
    return text


def _phrase(text: str) -> str:
    _sentence(f"{text}.")
    return text


def _bits(value: int | str) -> int | str:
    if (isinstance(value, int) and value < 0) or (
        isinstance(value, str) and not re.fullmatch(r"[0-9]{1,2}:[0-9]{1,2}", value)
    ):
        raise ValueError(f"bits are the number of one bit or 'high:low', not {value!r}")
    return value


Location = tuple[int | str, ...]
Sentence = Annotated[str, AfterValidator(_sentence)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$")]
LowerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
DashName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
Phrase = Annotated[str, AfterValidator(_phrase)]
Whole = Annotated[int, Limits(ge=0)]
Count = Annotated[int, Limits(ge=1)]
Access = Literal["ro", "rw", "wo", "w1c", "w1s"]
Reset = Whole | Literal["dynamic"]


class Record(BaseModel):
    """A mapping of the file; ``line`` is where it begins, counted from one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    line: int


class VersionSpec(Record):
    major: Whole
    minor: Whole


class DeviceSpec(Record):
    name: LowerName
    doc: Sentence
    vendor_id: Annotated[int, Limits(ge=0, le=0xFFFF)]
    device_id: Annotated[int, Limits(ge=0, le=0xFFFF)]
    revision: Annotated[int, Limits(ge=0, le=0xFF)]
    pci_class: Annotated[int, Limits(ge=0, le=0xFFFF, alias="class")]
    version: VersionSpec


class BarSpec(Record):
    name: Name
    index: Annotated[int, Limits(ge=0, le=5)]
    size: Count
    doc: Sentence


class ValueSpec(Record):
    name: Name
    value: Whole
    doc: Sentence


class EnumSpec(Record):
    name: Name
    doc: Sentence
    values: Annotated[tuple[ValueSpec, ...], Limits(min_length=1)]


class FeatureSpec(Record):
    name: Name
    bit: Annotated[int, Limits(ge=0, le=31)]
    doc: Sentence


class FeaturesSpec(Record):
    doc: Sentence
    bits: tuple[FeatureSpec, ...]


class FieldSpec(Record):
    name: Name
    bits: Annotated[int | str, AfterValidator(_bits)]
    doc: Sentence
    access: Access | None = None
    reset: Whole | None = None

    @property
    def high(self) -> int:
        """Number of the highest bit."""
        return self.bits if isinstance(self.bits, int) else int(self.bits.partition(":")[0])

    @property
    def low(self) -> int:
        """Number of the lowest bit."""
        return self.bits if isinstance(self.bits, int) else int(self.bits.partition(":")[2])


class RegisterSpec(Record):
    name: Name
    offset: Whole
    access: Access
    doc: Sentence
    width: Literal[32, 64] = 32
    count: Count | None = None
    reset: Reset | None = None
    fields: tuple[FieldSpec, ...] = ()


class CounterSpec(Record):
    name: LowerName
    doc: Sentence


class ReservedSpec(Record):
    offset: Whole
    size: Count
    doc: Sentence


class BlockSpec(Record):
    name: Name
    base: Whole
    size: Count
    doc: Sentence
    stride: Count | None = None
    count: Count | None = None
    registers: tuple[RegisterSpec, ...] = ()
    counters: tuple[CounterSpec, ...] = ()
    reserved: tuple[ReservedSpec, ...] = ()
    rest: Sentence | None = None


class WordSpec(Record):
    name: Name
    doc: Sentence
    count: Count | None = None
    fields: tuple[FieldSpec, ...] = ()


class StructSpec(Record):
    name: Name
    size: Count
    doc: Sentence
    words: Annotated[tuple[WordSpec, ...], Limits(min_length=1)]


class FaultValueSpec(Record):
    unit: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+$")]
    min: int
    max: int
    doc: Sentence
    default: int | None = None


class FaultSpec(Record):
    name: DashName
    doc: Sentence
    event: Phrase
    takes: tuple[Literal["queue", "misc", "register"], ...] = ()
    value: FaultValueSpec | None = None
    lasting: bool = False


class AuditSpec(Record):
    name: DashName
    doc: Sentence


class MapSpec(Record):
    device: DeviceSpec
    bars: Annotated[tuple[BarSpec, ...], Limits(min_length=1)]
    blocks: Annotated[tuple[BlockSpec, ...], Limits(min_length=1)]
    constants: tuple[ValueSpec, ...] = ()
    enums: tuple[EnumSpec, ...] = ()
    features: FeaturesSpec | None = None
    reserved: tuple[ReservedSpec, ...] = ()
    structures: tuple[StructSpec, ...] = ()
    faults: tuple[FaultSpec, ...] = ()
    audits: tuple[AuditSpec, ...] = ()


TYPE_NAMES: Mapping[str, str] = {
    "int_type": "a whole number",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a mapping",
}


class _Lines:
    """Turns YAML nodes into plain values, and remembers where each one stood."""

    def __init__(self, path: Path, loader: yaml.CSafeLoader) -> None:
        self.path = path
        self.loader = loader

    def value(self, node: yaml.Node) -> object:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.value(item) for item in node.value)
        return self.loader.construct_object(node)

    def mapping(self, node: yaml.MappingNode) -> dict[Hashable, object]:
        result: dict[Hashable, object] = {"line": _line(node)}
        for key_node, value_node in node.value:
            key = self.loader.construct_object(key_node)
            if key == "line" or not isinstance(key, str):
                raise HwMapError(self.path, _line(key_node), f"unknown key {key!r}")
            if key in result:
                raise HwMapError(self.path, _line(key_node), f"key {key!r} stands here twice")
            result[key] = self.value(value_node)
        return result


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _find(node: yaml.Node, location: Location) -> tuple[int, str]:
    """The line of what a validation error is about, as far down as the file goes, and the last key on the way.

    The location of an error goes on with the names of pydantic's types where a value may be of several.
    """
    line, name = _line(node), "the file"
    for step in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = _line(node)
        elif isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line, node, name = _line(found[0][0]), found[0][1], str(step)
        else:
            break
    return line, name


def _explain(error: ErrorDetails, name: str) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"unknown key {name!r}"
    if kind == "missing":
        return f"key {error['loc'][-1]!r} is missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind in TYPE_NAMES:
        return f"{name} must be {TYPE_NAMES[kind]}, not {error['input']!r}"
    return f"{name}: {error['msg']} (found {error['input']!r})"


def read(path: Path) -> MapSpec:
    """Read the file; raises :class:`HwMapError` with the line of the first thing that has the wrong shape."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HwMapError(path, 1, f"cannot be read: {error}") from error
    # libyaml's parser: every program that touches the device reads the map, and Python's own takes ten times as long.
    loader = yaml.CSafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise HwMapError(path, 1, "the file is empty")
        plain = _Lines(path, loader).value(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise HwMapError(path, mark.line + 1 if mark else 1, f"not YAML: {error.problem}") from error
    finally:
        loader.dispose()
    try:
        return MapSpec.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        line, name = _find(node, first["loc"])
        raise HwMapError(path, line, _explain(first, name)) from error
