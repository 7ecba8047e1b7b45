"""Settings: a TOML file and `key=value` overrides become one frozen dataclass, or one sentence that says what is wrong.

    load_settings(TrainConfig, Path("horses.toml"), ["size=128", "blocks=6"])

Unknown names are refused with the nearest known one. Values are checked against the field's annotation:
int, float (an int will do), bool, str, pathlib.Path, Literal of strings, and any of those `| None`.
"""

import difflib
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from cyclegan_edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def load_settings(kind: type[T], path: Path | None = None, overrides: Sequence[str] = (), **known: object) -> T:
    """Build a `kind` from the TOML file `path`, then `overrides` ("key=value"), then `known`; the later ones win.

    Raises ConfigError for a missing or malformed file, an unknown name, a wrong type, or what `kind` itself refuses.
    """
    values: dict[str, object] = {}
    if path is not None:
        values.update(_read_toml(path))
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"The setting {override!r} has no value, expected key=value, for instance size=128.")
        values[name.strip()] = _read_value(text.strip())
    return from_mapping(kind, {**values, **known})


def from_mapping(kind: type[T], values: Mapping[str, object]) -> T:
    """Build a `kind` from names and values of a file or a checkpoint; see `load_settings` for what is refused."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(typing.cast("Any", kind))]
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}."
            raise ConfigError(f"There is no setting {name!r}; {hint}")
    return kind(**{name: _convert(name, value, hints[name]) for name, value in values.items()})


def to_mapping(config: object) -> dict[str, object]:
    """The settings as plain values that TOML, JSON and a checkpoint can hold; `from_mapping` reads them back."""
    values = {field.name: getattr(config, field.name) for field in fields(typing.cast("Any", config))}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def to_toml(config: object) -> str:
    """The settings as a TOML file that `load_settings` reads back; a setting that is None is left out."""
    lines = []
    for name, value in to_mapping(config).items():
        if value is None:
            continue
        text = (
            str(value).lower() if isinstance(value, bool) else _quote(value) if isinstance(value, str) else repr(value)
        )
        lines.append(f"{name} = {text}\n")
    return "".join(lines)


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
