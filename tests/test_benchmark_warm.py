"""benchmarks/warm.py with tiny networks and moments instead of minutes: what it compares and writes."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from cyclegan_edge.images import read_image
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.state import TrainState, Weights, new_state

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module; its name and that of its neighbour are free again after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("warm")
    for name in ("machine", "warm"):
        sys.modules.pop(name, None)


def test_every_way_is_trained_and_written_as_tables_and_a_plot(
    warm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--base-minutes", "1e-6", "--minutes", "1e-6", "--size", "32", "--width", "4"]
    few = ["--base-pictures", "2", "--pictures", "2", "--tests", "2"]
    monkeypatch.setattr(sys, "argv", ["warm.py", *words, *few, "--out", str(tmp_path)])
    starts: list[Any] = []

    def noted(config: TrainConfig, device: torch.device, weights: Mapping[str, Weights]) -> TrainState:
        starts.append(weights)
        return new_state(config, device, weights)

    monkeypatch.setattr(warm, "new_state", noted)

    warm.main()

    text = (tmp_path / "warm.md").read_text(encoding="utf-8")
    heads = [line for line in text.splitlines() if line.startswith("| minutes |")]
    assert heads == [f"| minutes | {' | '.join(way.name for way in warm.WAYS)} |"] * 2
    assert [len(networks) for networks in starts] == [0, 4, 4, 1]
    picture = cv2.imread(str(tmp_path / "warm.png"))
    assert picture is not None
    assert picture.shape[1] > 2 * picture.shape[0]


def test_a_row_is_what_was_measured_last_and_a_goal_is_reached_once(warm: Any) -> None:
    curve = warm.Curve([0.0, 0.5, 1.0, 1.5], {"ssim_translated": [0.1, 0.4, 0.3, 0.5]})

    assert [curve.at("ssim_translated", minutes) for minutes in (0.0, 0.7, 1.0, 9.0)] == [0.1, 0.4, 0.3, 0.5]
    assert [curve.reaches("ssim_translated", goal) for goal in (0.1, 0.35, 0.45, 0.6)] == [0.0, 0.5, 1.5, None]


def test_only_winter_is_at_dusk(warm: Any, tmp_path: Path) -> None:
    one = {"pictures": 1, "tests": 1, "size": 32, "seed": 1}
    day, dusk = (warm.render(tmp_path / str(at), **one, dusk=at) for at in (False, True))

    ratios = {
        folder: (
            read_image(dusk / folder / "scene_0001.png") / read_image(day / folder / "scene_0001.png").clip(1)
        ).mean()
        for folder in ("trainA", "testA", "trainB", "testB", "truthB")
    }
    assert [folder for folder, ratio in ratios.items() if abs(ratio - 1) < 0.01] == ["trainA", "testA"]
    assert [ratio for ratio in ratios.values() if ratio < 0.99] == pytest.approx([sum(warm.DUSK) / 3] * 3, abs=0.02)
