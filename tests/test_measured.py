"""Reports of `bench engines`: what is read, what is refused, and which are known by a name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyclegan_edge.backends.measured import RECORDED, architecture_of, read_report, recorded, report_of, to_json
from cyclegan_edge.bundle import Bundle, read_bundle
from cyclegan_edge.errors import ConfigError

NAME = "amd-epyc-zen-5-2-threads"


def content() -> Any:
    """One of those that came with the package, as plain values."""
    return json.loads((RECORDED / f"{NAME}.json").read_text())


def test_every_report_that_comes_with_the_package_is_sound() -> None:
    assert NAME in recorded()
    for found in recorded().values():
        assert found.machine.cpu_class != "other"
        for model in found.models:
            assert model.rows, model.architecture
            assert [it.median_ms for it in model.rows] == sorted(it.median_ms for it in model.rows)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(to_json(recorded()[NAME]))

    assert read_report(path) == recorded()[NAME]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', "[" * 50_000, " " * 1_100_000])
def test_a_file_that_is_no_report_is_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)

    with pytest.raises(ConfigError, match=r"a\.json .*report of `bench engines`"):
        read_report(tmp_path / "a.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.update(models=[]),
        lambda report: report.update(size=0),
        lambda report: report["machine"].update(name="\x1b[2J"),
        lambda report: report["machine"].update(cpu="x" * 1000),
        lambda report: report["models"][0].update(graph_bytes=0),
        lambda report: report["models"][0]["rows"][0].update(median_ms=float("nan")),
        lambda report: report["models"][0]["rows"][0].update(median_ms=-1),
        lambda report: report["models"][0]["rows"][0].update(device="\n"),
    ],
)
def test_what_cannot_be_is_refused(change: Any, tmp_path: Path) -> None:
    report = content()
    change(report)
    (tmp_path / "a.json").write_text(json.dumps(report))

    with pytest.raises(ConfigError, match="that cannot be; measure again"):
        read_report(tmp_path / "a.json")


def test_a_device_is_a_recorded_name_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = content()
    report["machine"]["name"] = "A board"
    for file in ("board.json", "board", NAME):
        (tmp_path / file).write_text(json.dumps(report))

    assert report_of("board.json").machine.name == report_of("board").machine.name == "A board"
    assert report_of(NAME) == recorded()[NAME]
    assert report_of(f"./{NAME}").machine.name == "A board"
    with pytest.raises(ConfigError, match=rf"'jetson' is neither a file .* nor .* recorded are .*{NAME}"):
        report_of("jetson")
    with pytest.raises(ConfigError, match=r"gone\.json cannot be read"):
        report_of("gone.json")


def test_the_fastest_is_the_fastest_of_those_that_are_good_enough() -> None:
    model = recorded()[NAME].models[0]
    first, second, *others = model.rows

    bad = replace(first, out_of_bounds="is 30.0 dB from PyTorch")

    assert replace(model, rows=(*others, second, bad)).fastest == second
    assert replace(model, rows=(bad,)).fastest is None


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "resnet", "width": 16, "blocks": 9},
        {"generator": "resnet", "down": [16, 32, 64], "blocks": [64] * 9},
    ],
)
def test_the_architecture_is_told_of_ours_and_of_weights_from_elsewhere(
    settings: dict[str, object], tiny_bundle: Path
) -> None:
    bundle = read_bundle(tiny_bundle)

    assert architecture_of(Bundle(bundle.folder, replace(bundle.manifest, architecture=settings))) == "resnet 16x9"
