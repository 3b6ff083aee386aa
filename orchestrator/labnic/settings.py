# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading of settings: the layers are put together, and each error names the file and line it comes from."""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labnic.config import PATH_KEYS, Config
from labnic.errors import ConfigError

Loc = tuple[str | int, ...]

PROJECT_FILE = "labnic.yaml"
SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """A validated `Config` and where each of its values came from.

    ``sources`` maps the dotted name of a value (``machine.memory``, ``nics[0].mac``) to its origin: ``file:line``,
    ``environment LABNIC_...``, ``command line`` or ``default``.
    """

    config: Config
    sources: Mapping[str, str]
    files: tuple[Path, ...]

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """Each value as (dotted name, value, origin), in the order of the configuration."""
        for loc, value in _leaves(self.config.model_dump(mode="json"), ()):
            yield dotted(loc), value, self.sources.get(dotted(loc), "default")


@dataclass
class _Layer:
    """One source of values; ``origin`` tells for each place in ``data`` what to call it in a message."""

    data: dict[str, Any] = field(default_factory=dict)
    origin: dict[Loc, str] = field(default_factory=dict)


def dotted(loc: Loc) -> str:
    """The name of a place as the user writes it: ``nics[0].mac``."""
    name = ""
    for part in loc:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".")


def load_settings(
    project: Path | None = None,
    *,
    overrides: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> Settings:
    """Put the layers together and validate them.

    ``project`` is the file the user named; without it, ``labnic.yaml`` is looked for from ``start`` (default: the
    current folder) upwards, then in the folder of the project itself.  ``overrides`` are the command line's settings
    by dotted name.  Raises `ConfigError` naming every unknown key, wrong type and bad value with its line.
    """
    environment = os.environ if environment is None else environment
    merged = _Layer()
    files = []
    for path in (_user_file(environment), _project_file(project, environment, start or Path.cwd())):
        if path is not None:
            _merge(merged, _file_layer(path))
            files.append(path)
    _merge(merged, _environment_layer(environment))
    _merge(merged, _override_layer(overrides or {}))
    try:
        config = Config.model_validate(merged.data)
    except ValidationError as error:
        lines = [_explain(details, merged.origin) for details in _primary(error.errors(include_url=False))]
        raise ConfigError("\n".join(lines), hint="`labnic config show` prints every setting with its source") from None
    if ("artifacts",) not in merged.origin:
        base = files[-1].parent if files else Path.cwd()
        config = config.model_copy(update={"artifacts": base / config.artifacts})
    sources = {dotted(loc): text for loc, text in merged.origin.items()}
    return Settings(config, sources, tuple(files))


def _user_file(environment: Mapping[str, str]) -> Path | None:
    base = environment.get("XDG_CONFIG_HOME")
    folder = Path(base) if base else Path(environment.get("HOME", "/")) / ".config"
    path = folder / "labnic" / "config.yaml"
    return path if path.is_file() else None


def _project_file(named: Path | None, environment: Mapping[str, str], start: Path) -> Path | None:
    named = named or (Path(environment["LABNIC_CONFIG"]) if environment.get("LABNIC_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"{named}: there is no such file", hint="name a file of settings, or leave --config out")
        return named.resolve()
    for folder in (start, *start.parents, _REPOSITORY):
        if (folder / PROJECT_FILE).is_file():
            return (folder / PROJECT_FILE).resolve()
    return None


def _file_layer(path: Path) -> _Layer:
    """Read one YAML file, keeping the line of each key."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path.name}:{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name}: not valid YAML: {error}") from None
    layer = _Layer()
    if node is None:
        return layer
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path.name}:1: must be a mapping of settings")
    constructor = yaml.SafeLoader("")
    value = _construct(node, (), path, layer.origin, constructor)
    assert isinstance(value, dict)
    layer.data = value
    return layer


def _construct(node: yaml.Node, loc: Loc, path: Path, origin: dict[Loc, str], loader: yaml.SafeLoader) -> Any:
    """The value of a node; duplicate keys are refused, and paths are made absolute from the file's folder."""
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            where = f"{path.name}:{key_node.start_mark.line + 1}"
            if key in result:
                first = origin[(*loc, key)].rpartition(":")[2]
                raise ConfigError(f"{where}: {dotted((*loc, key))}: given twice (first on line {first})")
            origin[(*loc, key)] = where
            result[key] = _construct(value_node, (*loc, key), path, origin, loader)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            origin[(*loc, index)] = f"{path.name}:{item.start_mark.line + 1}"
            items.append(_construct(item, (*loc, index), path, origin, loader))
        return items
    # YAML 1.1 reads 52:54:00:00:00:01 as a number to the base of 60; nobody means that.
    if node.tag == "tag:yaml.org,2002:int" and ":" in node.value:
        return node.value
    try:
        value = loader.construct_object(node)
    except (yaml.YAMLError, ValueError):
        line = node.start_mark.line + 1
        raise ConfigError(f"{path.name}:{line}: {dotted(loc)}: not a value that settings may have") from None
    return _as_path(loc, value, path.parent)


def _as_path(loc: Loc, value: Any, base: Path) -> Any:
    if loc in PATH_KEYS and isinstance(value, str):
        return base / Path(value).expanduser()
    return value


def _environment_layer(environment: Mapping[str, str]) -> _Layer:
    """``LABNIC_MACHINE_MEMORY`` is machine.memory; a misspelt name inside a known section is an error."""
    names = {"LABNIC_" + "_".join(str(part) for part in loc).upper(): loc for loc in _scalar_settings(Config)}
    sections = tuple(sorted({name.rpartition("_")[0] + "_" for name in names if name.count("_") > 1}))
    layer = _Layer()
    for name, text in environment.items():
        if name in names:
            _put(layer, names[name], text, f"environment {name}")
        elif name.startswith(sections):
            raise ConfigError(f"environment {name}: unknown setting{_suggest(name, list(names))}")
    return layer


def _override_layer(overrides: Mapping[str, str]) -> _Layer:
    names = {dotted(loc): loc for loc in _scalar_settings(Config)}
    layer = _Layer()
    for name, text in overrides.items():
        if name not in names:
            raise ConfigError(f"command line: {name}: unknown setting{_suggest(name, list(names))}")
        _put(layer, names[name], text, "command line")
    return layer


def _put(layer: _Layer, loc: tuple[str, ...], text: str, origin: str) -> None:
    data = layer.data
    for part in loc[:-1]:
        data = data.setdefault(part, {})
    data[loc[-1]] = _as_path(loc, _from_text(text, _annotation(loc)), Path.cwd())
    layer.origin[loc] = origin


def _from_text(text: str, annotation: Any) -> Any:
    """A value given as text, in the type of its setting; what cannot be converted is left for the validation."""
    if typing.get_origin(annotation) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if annotation is bool:
        # The words of YAML, which are those of a file.
        return SWITCHES.get(text.lower(), text)
    for kind in (int, float):
        if annotation is kind:
            try:
                return kind(text)
            except ValueError:
                return text
    return text


def _scalar_settings(model: type[BaseModel], loc: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Settings that one line of text can give; the list of NICs is none."""
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _scalar_settings(annotation, (*loc, name))
        elif not any(isinstance(arg, type) and issubclass(arg, BaseModel) for arg in typing.get_args(annotation)):
            yield (*loc, name)


def _annotation(loc: Sequence[str | int]) -> Any:
    """The type of a setting; None when there is no such setting."""
    current: Any = Config
    for part in loc:
        if isinstance(part, int):
            current = next(iter(typing.get_args(current)), None)
        elif isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = current.model_fields[part].annotation
        else:
            return None
    return current


def _merge(below: _Layer, above: _Layer) -> None:
    """Put one layer over another: mappings are merged key by key, everything else is replaced whole."""

    def replace(old: dict[str, Any], new: dict[str, Any], loc: Loc) -> None:
        for key, value in new.items():
            here = (*loc, key)
            if isinstance(value, dict) and isinstance(old.get(key), dict):
                replace(old[key], value, here)
            else:
                for stale in [place for place in below.origin if place[: len(here)] == here]:
                    del below.origin[stale]
                old[key] = value

    replace(below.data, above.data, ())
    below.origin.update(above.origin)


def _primary(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The errors without those that only follow: a list whose entries are all bad also counts as too short."""
    places = [tuple(details["loc"]) for details in errors]
    return [
        details
        for details, loc in zip(errors, places, strict=True)
        if details["type"] != "too_short" or not any(place[: len(loc)] == loc != place for place in places)
    ]


def _explain(details: ErrorDetails, origin: Mapping[Loc, str]) -> str:
    """One line for one validation error."""
    loc: Loc = tuple(details["loc"])
    where = next((origin[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in origin), "settings")
    name = dotted(loc)
    return f"{where}: {name}: {_reason(details, loc)}" if name else f"{where}: {_reason(details, loc)}"


def _reason(details: ErrorDetails, loc: Loc) -> str:
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        parent = _annotation(loc[:-1])
        return "unknown key" + _suggest(str(loc[-1]), list(getattr(parent, "model_fields", {})))
    if kind == "bool_type":
        return f"must be true or false, not {value!r}"
    if kind in ("int_type", "float_type", "int_from_float"):
        noun = "a whole number" if kind.startswith("int") else "a number"
        return f"must be {noun}, not {value!r}"
    if kind == "string_type":
        advice = f'; put it in quotes: "{value}"' if isinstance(value, int | float) else ""
        return f"must be text, not {value!r}{advice}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be a mapping of keys, not {value!r}"
    if kind in ("tuple_type", "list_type"):
        return f"must be a list, not {value!r}"
    if kind in ("path_type", "is_instance_of"):
        return f"must be a path, not {value!r}"
    if kind == "literal_error":
        return f"must be {details['ctx']['expected']}, not {value!r}" + _suggest_literal(value, loc)
    if kind == "too_short":
        return "needs at least one entry"
    return details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def _suggest_literal(value: Any, loc: Loc) -> str:
    annotation = _annotation(loc)
    if isinstance(annotation, types.UnionType):
        return ""
    return _suggest(str(value), [str(choice) for choice in typing.get_args(annotation)])


def _suggest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _leaves(value: Any, loc: Loc) -> Iterator[tuple[Loc, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*loc, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            yield from _leaves(item, (*loc, index))
    else:
        yield loc, value
