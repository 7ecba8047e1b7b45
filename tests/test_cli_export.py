"""`cyclegan-edge export` as a person types it: what is kept, shown and refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cyclegan_edge.bundle import INCLUDED, read_bundle
from cyclegan_edge.cli import app
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.pipeline import export_checkpoint


@pytest.mark.usefixtures("other_pytorch")
def test_the_command_shows_by_how_much_the_float32_graph_failed_and_keeps_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["export", str(tiny_checkpoint.parents[1]), "--fp16", "--name", "small"])

    assert result.exit_code == 1
    assert "max 1, 60 dB, 0.999  failed" in result.output
    assert str(result.exception).startswith("generator-fp32.onnx differs from PyTorch by up to ")
    assert str(result.exception) not in result.output  # main says it
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.usefixtures("wrong_half")
def test_the_command_keeps_what_is_good_shows_what_is_not_and_exits_with_1(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["export", str(tiny_checkpoint.parents[1]), "--fp16", "--name", "small"])

    folder = Path("models/small")
    lines = result.output.splitlines()
    assert result.exit_code == 1
    assert str(result.exception) == "1 of 2 failed, generator-fp16.onnx; the reasons are above."
    assert any(line.startswith(" generator-fp32.onnx ") and line.endswith("good   ") for line in lines)
    assert any(line.startswith(" generator-fp16.onnx ") and "max 4, 50 dB, 0.995  failed" in line for line in lines)
    assert any(line.startswith("failed, generator-fp16.onnx differs from PyTorch by up to ") for line in lines)
    assert "Next:" not in result.output
    assert [artifact.file for artifact in read_bundle(folder).manifest.artifacts] == ["generator-fp32.onnx"]
    assert not (folder / "generator-fp16.onnx").exists()


def test_a_bundle_that_was_copied_verifies(tiny_checkpoint: Path, tmp_path: Path) -> None:
    export_checkpoint(tiny_checkpoint, tmp_path / "small", ExportConfig(fp16=True))
    (tmp_path / "small").rename(tmp_path / "elsewhere")

    result = CliRunner().invoke(app, ["verify", str(tmp_path / "elsewhere"), "--engine", "onnxruntime"])

    assert result.exit_code == 0, result.output
    assert "8 files are as they were exported, and no engine is out of bounds." in result.output


@pytest.mark.parametrize("option", ["--bgr", "--float", "--fixed=448x256"])
def test_a_bundle_has_no_weights_to_write_a_graph_from(option: str, exported: Path) -> None:
    with pytest.raises(ConfigError, match=f"is a bundle, but {option.partition('=')[0]} needs the weights of a run"):
        CliRunner().invoke(app, ["export", str(exported), option], catch_exceptions=False)


def test_a_size_that_is_none_is_refused_with_one_that_is(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"fixed is 'big', expected WIDTHxHEIGHT in pixels; try 640x480\."):
        CliRunner().invoke(app, ["export", str(tiny_checkpoint), "--fixed", "big"], catch_exceptions=False)


def test_the_model_that_comes_with_the_package_is_copied_to_where_it_can_be_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    first = CliRunner().invoke(app, ["export", "landscapes"], catch_exceptions=False)
    again = CliRunner().invoke(app, ["export", "landscapes"], catch_exceptions=False)

    assert "it is copied to models/landscapes" in first.output
    assert "copied" not in again.output
    assert read_bundle("models/landscapes").manifest == read_bundle(INCLUDED / "landscapes").manifest
