"""`cyclegan-edge evaluate` on a run, a checkpoint and a bundle: what it prints, where it stores, what it refuses."""

import json
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from cyclegan_edge.cli import app, main
from cyclegan_edge.train.evaluate.features import INCEPTION_URL


class Means(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean((2, 3))


@pytest.fixture
def run(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, on a machine without Inception's weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "runs" / "tiny"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(tiny_checkpoint, folder / "checkpoints")
    return folder


@pytest.fixture
def data(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint.parents[3] / "scenes"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "means.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, as features.py says
        torch.jit.script(Means()).save(str(path))  # type: ignore[no-untyped-call]
    return path


def evaluate(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_is_measured_without_inception_s_weights_and_says_what_to_fetch(run: Path, tmp_path: Path) -> None:
    said = evaluate(run)

    stored = json.loads((run / "evaluation" / "step_0000000.json").read_text())
    assert stored["model"]["path"] == str(run / "checkpoints" / "step_0000000.pt")
    assert stored["quality"]["distance"] is None
    assert (
        f"FID and KID are left out: Inception's weights are not there: fetch {INCEPTION_URL} (SHA-256 6726825d" in said
    )
    assert f"put it in {tmp_path / 'torch' / 'hub' / 'checkpoints'}" in said
    assert f"{stored['quality']['truth']['psnr_translated_db']:.2f}" in said
    assert f"{stored['quality']['cycle']['l1_levels']:.2f}" in said
    assert str(run / "evaluation" / "step_0000000.json") in said


def test_the_page_of_a_run_shows_the_figures_from_then_on(run: Path) -> None:
    (run / "settings.toml").write_text('data = "scenes"\n')
    (run / "report.html").write_text("the page of a run that has ended")

    said = evaluate(run)

    stored = json.loads((run / "evaluation" / "step_0000000.json").read_text())
    assert f"{run / 'report.html'} too" in said
    assert f"{stored['quality']['truth']['psnr_translated_db']:.4g}" in (run / "report.html").read_text()


def test_a_network_of_one_s_own_gives_fid_and_kid(run: Path, network: Path) -> None:
    said = evaluate(run, "--features", network, "--images", 3, "--direction", "ba")

    stored = json.loads((run / "evaluation" / "step_0000000-ba.json").read_text())
    assert stored["protocol"]["features"]["network"] == "means.pt"
    assert "FID to 3 real pictures" in said
    assert f"{stored['quality']['distance']['fid']:.4g}" in said
    assert "3 translated and 3 real pictures are few for 3 features" in said


def test_a_bundle_keeps_its_figures_inside(tiny_bundle: Path, data: Path, network: Path) -> None:
    evaluate(tiny_bundle, "--data", data, "--engine", "onnxruntime", "--features", network)
    said = evaluate(tiny_bundle, "--data", data, "--engine", "onnxruntime", "--features", network)  # still a bundle

    stored = json.loads((tiny_bundle / "evaluation.json").read_text())
    assert stored["model"]["kind"] == "bundle"
    assert "with onnxruntime" in said
    assert "4 pictures at 32 px" in said
    assert "The cycle is left out" in said


def test_a_checkpoint_outside_a_run_keeps_its_figures_beside_it(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "copied.pt"
    shutil.copy(run / "checkpoints" / "step_0000000.pt", copied)

    evaluate(copied, "--data", data)
    evaluate(copied, "--data", data, "--out", tmp_path / "elsewhere" / "figures.json")
    monkeypatch.chdir(tmp_path)
    evaluate("copied.pt", "--data", data, "--out", "here.json")

    assert (tmp_path / "copied.json").is_file()
    assert (tmp_path / "elsewhere" / "figures.json").is_file()
    assert (tmp_path / "here.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["RUN", "--engine", "onnxruntime"], "--engine and --precision"),
        (["BUNDLE"], "testA/ with --data"),
        (["BUNDLE", "--data", "DATA", "--direction", "ba"], "direction ab, not ba"),
        (["RUN", "--data", "RUN"], "no pictures in testA"),
        (["RUN", "--features", "RUN"], "is not a file"),
        (["DATA"], "is neither a checkpoint"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str],
    facts: str,
    run: Path,
    tiny_bundle: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"RUN": str(run), "BUNDLE": str(tiny_bundle), "DATA": str(data)}
    monkeypatch.setattr(sys, "argv", ["cyclegan-edge", "evaluate", *(places.get(word, word) for word in arguments)])

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert facts in said
    assert said.count("\n") == 1
