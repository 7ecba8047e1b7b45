"""Settings: a TOML file and `key=value` overrides become one frozen dataclass, or one sentence that says what is wrong.

    load_settings(TrainConfig, Path("horses.toml"), ["size=128", "generator.blocks=6"])

A field that is a dataclass itself is a table in TOML and a dotted name in an override. Unknown names are refused with
the nearest known one. Values are checked against the field's annotation: int, float (an int will do), bool, str,
pathlib.Path, Literal of strings, and any of those `| None`.
"""

import difflib
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from cyclegan_edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def load_settings(
    kind: type[T],
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    base: Mapping[str, object] | None = None,
    known: Mapping[str, object] | None = None,
) -> T:
    """Build a `kind` from `base`, the TOML file `path`, `overrides` ("key=value"), and `known`; the later ones win.

    Raises ConfigError for a missing or malformed file, an unknown name, a wrong type, or what `kind` itself refuses.
    """
    values = _flat(base or {})
    if path is not None:
        values.update(_flat(_read_toml(path)))
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"The setting {override!r} has no value, expected key=value, for instance size=128.")
        values[name.strip()] = _read_value(text.strip())
    return from_mapping(kind, {**values, **_flat(known or {})})


def from_mapping(kind: type[T], values: Mapping[str, object]) -> T:
    """Build a `kind` from names and values of a file or a checkpoint; see `load_settings` for what is refused.

    Names may be dotted ("generator.width") or nested ({"generator": {"width": 64}}).
    """
    known = list(_names(kind))
    flat = _flat(values)
    for name in flat:
        if name not in known:
            raise ConfigError(f"There is no setting {name!r}; {_hint(name, known)}")
    built: T = _build(kind, flat, "")
    return built


def to_mapping(config: object) -> dict[str, object]:
    """The settings as plain values that TOML, JSON and a checkpoint can hold; `from_mapping` reads them back."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(typing.cast("Any", config))}


def to_toml(config: object) -> str:
    """The settings as a TOML file that `load_settings` reads back; a setting that is None is left out."""
    mapping = to_mapping(config)
    lines = [_line(name, value) for name, value in mapping.items() if not isinstance(value, dict)]
    for name, table in mapping.items():
        if isinstance(table, dict):
            lines += [f"\n[{name}]\n", *(_line(key, value) for key, value in table.items())]
    return "".join(lines)


def changed(before: object, after: object) -> list[str]:
    """The dotted names of the settings in which two of the same kind differ."""
    old, new = _flat(to_mapping(before)), _flat(to_mapping(after))
    return [name for name in old if old[name] != new[name]]


def _build(kind: Any, flat: Mapping[str, object], prefix: str) -> Any:
    values: dict[str, object] = {}
    for name, hint in _hints(kind).items():
        if is_dataclass(hint):
            values[name] = _build(hint, flat, f"{prefix}{name}.")
        elif prefix + name in flat:
            values[name] = _convert(prefix + name, flat[prefix + name], hint)
    missing = [field.name for field in fields(kind) if field.name not in values and _is_required(field)]
    if missing:
        raise ConfigError(f"The setting {prefix + missing[0]!r} is missing; give it a value.")
    return kind(**values)


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _names(kind: Any, prefix: str = "") -> Iterator[str]:
    for name, hint in _hints(kind).items():
        if is_dataclass(hint):
            yield from _names(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def _hint(name: str, known: Sequence[str]) -> str:
    """The nearest known name; `width` finds `generator.width`, `blcoks` finds `generator.blocks`."""
    last = [one.rpartition(".")[2] for one in known]
    if near := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {near[0]!r}?"
    if near := difflib.get_close_matches(name.rpartition(".")[2], last, n=1):
        return f"did you mean {' or '.join(repr(one) for one in known if one.rpartition('.')[2] == near[0])}?"
    return f"known are {', '.join(known)}."


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def _plain(value: object) -> object:
    if is_dataclass(value):
        return to_mapping(value)
    return str(value) if isinstance(value, Path) else value


def _line(name: str, value: object) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else _quote(value) if isinstance(value, str) else repr(value)
    return f"{name} = {text}\n"


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The settings file {path} cannot be read ({error.strerror}); give the path of a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The settings file {path} is not valid TOML ({error}); correct it there.") from error


def _read_value(text: str) -> object:
    """`128`, `1e-4`, `true` as TOML reads them; anything else is a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _convert(name: str, value: object, hint: Any) -> object:
    choices = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None or value == "none":
            return None
        return _convert(name, value, next(choice for choice in choices if choice is not types.NoneType))
    if typing.get_origin(hint) is Literal:
        if value in choices:
            return value
        raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if type(value) is hint:
        return value
    raise ConfigError(f"{name} is {value!r}, expected a value of type {getattr(hint, '__name__', hint)}.")
