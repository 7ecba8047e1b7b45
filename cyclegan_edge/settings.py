"""Settings: a TOML file and `key=value` assignments become one frozen dataclass, or a sentence that says what is wrong.

    load_settings(TrainConfig, Path("horses.toml"), ["size=128", "generator.blocks=6"])

A field that is a dataclass itself is a table in TOML and a dotted name in an assignment. schema.py says what else a
field may be; an unknown name is refused with the nearest known one.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.schema import from_mapping, to_mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

_MAX_DEPTH = 16  # of tables in tables


def load_settings(
    kind: type[T],
    path: Path | None = None,
    assignments: Sequence[str] = (),
    *,
    base: Mapping[str, object] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> T:
    """Build a `kind` from `base`, the TOML file `path`, `assignments` ("key=value"), and `overrides`: later ones win.

    Names in mappings may be dotted ("generator.width") or nested ({"generator": {"width": 64}}). Raises ConfigError for
    a missing or malformed file, an unknown name, a wrong type, or what `kind` itself refuses.
    """
    values = _flat(base or {})
    if path is not None:
        values.update(_flat(read_toml(path)))
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"The setting {assignment!r} has no value, expected key=value, for instance size=128.")
        values[name.strip()] = _read_value(text.strip())
    return from_mapping(kind, _nested({**values, **_flat(overrides or {})}))


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
    return [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    _check_depth(prefix)
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def _nested(flat: Mapping[str, object]) -> dict[str, object]:
    """{"generator.width": 64} -> {"generator": {"width": 64}}."""
    values: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {}
    for name, value in flat.items():
        _check_depth(name)
        table, dot, rest = name.partition(".")
        if dot:
            tables.setdefault(table, {})[rest] = value
        else:
            values[name] = value
    plain = {name: value for name, value in values.items() if value is not None or name not in tables}
    return {**{name: _nested(table) for name, table in tables.items()}, **plain}


def _check_depth(name: str) -> None:
    if name.count(".") > _MAX_DEPTH:
        raise ConfigError(f"The setting {name[:40]}... is nested more than {_MAX_DEPTH} deep, expected table.key.")


def _line(name: str, value: object) -> str:
    text = repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)  # as TOML has it
    return "" if value is None else f"{name} = {text}\n"


def read_toml(path: Path) -> dict[str, object]:
    """The tables of a TOML file. Raises ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The settings file {path} cannot be read ({error.strerror}); give the path of a TOML file."
        ) from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number of 5000 digits, tables without end
        raise ConfigError(f"The settings file {path} is not valid TOML ({error}); correct it there.") from error


def _read_value(text: str) -> object:
    """`128`, `1e-4`, `true` as TOML reads them; anything else is a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
