"""Settings from a TOML file and from the command line: which wins, and what is refused."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.settings import changed, load_settings, to_toml


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    width: int = 64
    blocks: int = 9
    rate: float = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Other:
    width: int = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    data: str
    size: int = 256
    steps: int | None = None
    device: Literal["auto", "cpu"] = "auto"
    cache: Path | None = None
    flip: bool = True
    network: Network = field(default_factory=Network)
    other: Other = field(default_factory=Other)
    start: Other | None = None


def load(*assignments: str) -> Recipe:
    return load_settings(Recipe, None, assignments, overrides={"data": "horses"})


def test_assignments_win_over_the_file_and_the_file_over_the_base(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('data = "horses"\nsteps = 3\n[network]\nwidth = 64\nblocks = 6\n')

    recipe = load_settings(
        Recipe,
        path,
        ["network.width=16", "network.rate=1e-4", "steps=none", "device=cpu"],
        base={"network.blocks": 1, "other": {"width": 8}},
        overrides={"size": 128},
    )

    network, other = Network(width=16, blocks=6, rate=1e-4), Other(width=8)
    assert recipe == Recipe(data="horses", size=128, device="cpu", network=network, other=other)


def test_settings_survive_a_toml_file(tmp_path: Path) -> None:
    recipe = Recipe(data='ho"r\\se\ns', cache=Path("cache"), flip=False, network=Network(rate=1e-5))
    path = tmp_path / "settings.toml"

    path.write_text(to_toml(recipe))

    assert load_settings(Recipe, path) == recipe


def test_settings_that_differ_are_named() -> None:
    assert changed(load(), load("size=128", "network.blocks=1")) == ["size", "network.blocks"]
    assert changed(load(), load("start.width=8")) == ["start.width"]
    assert changed(load("start.width=8"), load()) == ["start.width"]


def test_a_table_that_was_none_is_given_and_taken_away(tmp_path: Path) -> None:
    given = load_settings(Recipe, None, ["start.width=8"], base=to_mapping(load()))
    (tmp_path / "settings.toml").write_text(to_toml(given))

    assert given == load_settings(Recipe, tmp_path / "settings.toml") == load("start.width=8")
    assert load_settings(Recipe, None, ["start=none"], base=to_mapping(given)) == load()


@pytest.mark.parametrize(
    ("assignment", "facts"),
    [
        ("network.blcoks=6", r"network\.blcoks.*'network\.blocks'"),
        ("blcoks=6", r"blcoks.*'network\.blocks'"),
        ("networks.width=6", r"networks\.width.*'network\.width'"),
        ("width=6", r"width.*'network\.width' or 'other\.width'"),
        ("zzz=1", "zzz.*known are data, size"),
        ("network=1", "network is 1"),
        ("network.width=wide", r"network\.width is 'wide', .* int"),
        ("network.width=1.5", r"network\.width is 1\.5, .* int"),
        ("flip=1", "flip is 1, .* bool"),
        ("size=none", "size is 'none', .* int"),
        ("device=gpu", "device is 'gpu', .*'auto', 'cpu'"),
        ("size", "'size' .*key=value"),
    ],
)
def test_a_wrong_assignment_is_refused_by_name(assignment: str, facts: str) -> None:
    with pytest.raises(ConfigError, match=facts):
        load(assignment)


def test_a_setting_without_a_default_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="data is missing"):
        load_settings(Recipe)


def test_a_missing_or_malformed_file_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("width = = 3")

    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_settings(Recipe, tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"broken\.toml .*line 1"):
        load_settings(Recipe, broken)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "{a = " * 5000 + "1" + "}" * 5000,
        "size = " + "9" * 5000,
        ".".join(["a"] * 5000) + " = 1",
        f"[{'.'.join(['a'] * 5000)}]\nb = 1",
    ],
    ids=["lists", "tables", "digits", "dots", "header"],
)
def test_a_file_without_end_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(text)

    with pytest.raises(ConfigError, match=r"is not valid TOML|nested more than 16 deep") as refused:
        load_settings(Recipe, tmp_path / "deep.toml")
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("assignment", ["size=" + "[" * 5000, "size=" + "9" * 5000, ".".join(["a"] * 5000) + "=1"])
def test_an_assignment_without_end_is_a_sentence(assignment: str) -> None:
    with pytest.raises(ConfigError):
        load_settings(Recipe, None, [assignment])
