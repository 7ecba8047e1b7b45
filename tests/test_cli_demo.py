"""`cyclegan-edge demo` from end to end, on a smaller data set than a user sees."""

import importlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cyclegan_edge.cli import app
from cyclegan_edge.errors import TrainError
from cyclegan_edge.images import list_images
from cyclegan_edge.train.runs import hold


def test_the_demo_runs_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = importlib.import_module("cyclegan_edge.cli.demo")
    for name, value in {"SIZE": 64, "PICTURES": 3, "TESTS": 2, "FRAME": (64, 112), "FRAMES": 4}.items():
        monkeypatch.setattr(demo, name, value)

    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--steps", "2"], catch_exceptions=False)

    assert result.exit_code == 0, result.output
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"scenes", "run", "model", "before-after.png", "video.mp4", "numbers.json"}
    assert len(list_images(tmp_path / "scenes" / "truthB")) == 2
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["video"]["frames"] == 4
    assert numbers["quality"]["pictures"] == numbers["parity"]["images"] == 2
    assert f"{numbers['quality']['psnr_translated_db']:.1f} dB" in result.output


def test_a_demo_that_trains_is_not_replaced_by_another(tmp_path: Path) -> None:
    with hold(tmp_path / "run", new=True), pytest.raises(TrainError, match="Another process is training in"):
        CliRunner().invoke(app, ["demo", "--out", str(tmp_path)], catch_exceptions=False)

    assert tmp_path.is_dir()
