"""Values from outside (TOML, JSON, a checkpoint) -> a frozen dataclass or a TypedDict, checked against its annotations.

    from_mapping(Manifest, json.loads(text))

A field may be bool, int, float (an int will do), str, pathlib.Path, a Literal, another such record, a tuple, list or
dict[str, ...] of those, any of them `| None`, Any, or any other class, whose objects are taken as they are. Unknown and
missing names and wrong types are refused by their dotted name, as in "artifacts[0].parity.images is '8', expected a
value of type int."
"""

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from cyclegan_edge.errors import ConfigError

T = TypeVar("T")


def from_mapping(kind: type[T], values: object) -> T:
    """Build a `kind` from a mapping of its field names; a field with a default may be missing.

    Where a field may be None, the word "none" means None too, because TOML has no other. Raises ConfigError, one
    sentence, for what does not fit and for what `kind` itself refuses.
    """
    built: T = _record(kind, values, "")
    return built


def to_mapping(record: object) -> dict[str, object]:
    """The fields of a dataclass as plain values that TOML, JSON and a checkpoint hold; `from_mapping` reads them."""
    return asdict(
        typing.cast("Any", record),
        dict_factory=lambda items: {name: str(value) if isinstance(value, Path) else value for name, value in items},
    )


def _record(kind: Any, value: object, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name or 'The content'} is {value!r:.80}, expected names and values of its own.")
    hints = typing.get_type_hints(kind)
    prefix = f"{name}." if name else ""
    for key, item in value.items():
        if key not in hints:
            unknown = _first_leaf(f"{prefix}{key}", item)
            raise ConfigError(f"{unknown:.80} is unknown; {_nearest(unknown, list(_names(kind, prefix)))}")
    for required in _required(kind):
        if required not in value:
            raise ConfigError(f"{prefix}{required} is missing; give it a value.")
    return kind(**{key: _value(hints[key], item, prefix + key) for key, item in value.items()})


def _is_record(hint: Any) -> bool:
    return is_dataclass(hint) or typing.is_typeddict(hint)


def _required(kind: Any) -> list[str]:
    if typing.is_typeddict(kind):
        return [name for name in typing.get_type_hints(kind) if name in kind.__required_keys__]
    return [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]


def _value(hint: Any, value: object, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if _is_record(hint):
        return _record(hint, value, name)
    if origin in (types.UnionType, typing.Union):  # X | None, the only union here
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if value is None or value == "none" else _value(inner, value, name)
    if origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{name} is {value!r:.80}, expected one of {', '.join(map(repr, arguments))}.")
    if origin is tuple and isinstance(value, list | tuple):
        hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(hints) == len(value):
            return tuple(
                _value(one, item, f"{name}[{i}]") for i, (one, item) in enumerate(zip(hints, value, strict=True))
            )
    if origin is list and isinstance(value, list):
        return [_value(arguments[0], item, f"{name}[{index}]") for index, item in enumerate(value)]
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _value(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is int and type(value) is int and value.bit_length() > 63:
        raise ConfigError(f"{name} is a number of {value.bit_length()} bits, expected at most 63.")
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{name} is {value!r:.80}, expected no NUL in it.")
    if hint is Any or type(value) is hint:
        return value
    expected = str(hint) if origin else hint.__name__
    raise ConfigError(f"{name} is {value!r:.80}, expected a value of type {expected}.")


def _first_leaf(name: str, value: object) -> str:
    """ "generators", {"width": 64} -> "generators.width"."""
    while isinstance(value, Mapping) and value:
        key, value = next(iter(value.items()))
        name = f"{name}.{key}"
    return name


def _names(kind: Any, prefix: str) -> Iterator[str]:
    for name, hint in typing.get_type_hints(kind).items():
        if _is_record(hint):
            yield from _names(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def _nearest(name: str, known: Sequence[str]) -> str:
    """The nearest known names: `width` finds every `*.width`, `blcoks` finds `generator.blocks`."""
    last = {one: one.rpartition(".")[2] for one in known}
    near = [one for one in known if last[one] == name] or difflib.get_close_matches(name, known, n=1)
    if not near:
        close = difflib.get_close_matches(name.rpartition(".")[2], last.values(), n=1)
        near = [one for one in known if last[one] in close]
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(known)}."
