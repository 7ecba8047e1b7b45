"""`cyclegan-edge distill`, from anyone's weights to an exported student."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cyclegan_edge.backends.measured import RECORDED
from cyclegan_edge.cli import app
from cyclegan_edge.cli.distill import _milliseconds
from cyclegan_edge.errors import CheckpointError, ConfigError
from cyclegan_edge.images import write_image
from cyclegan_edge.scenes import render
from cyclegan_edge.train.checkpoint import load_generator
from cyclegan_edge.train.networks import GeneratorConfig, init_weights, new_generator
from cyclegan_edge.train.torch_file import read_torch_file

NAME = "amd-epyc-zen-5-2-threads"  # a machine that was recorded
PLAIN = [
    *("--size", "32", "--set", "precision=fp32"),
    *("--set", "objective.features=0", "--set", "objective.gram=0", "--set", "objective.adversarial=0"),
]
SMALL = ["--set", "generator.width=4", "--set", "generator.blocks=1", *PLAIN]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set, the weights of a teacher, and the place to work in."""
    for seed in range(3):
        for domain in ("trainA", "trainB"):
            write_image(tmp_path / "data" / domain / f"{seed}.png", render(seed, "summer", size=(36, 36)))
    teacher = new_generator(GeneratorConfig(width=4, blocks=1))
    init_weights(teacher, torch.Generator().manual_seed(0), "xavier", 1.0)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    for name in ("other_ab.pth", "other_ba.pth"):
        shutil.copy(tmp_path / "teacher.pth", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result.output


def test_a_student_is_distilled_continued_and_exported(folder: Path) -> None:
    first = run("distill", "teacher.pth", "data", "--steps", "2", *SMALL)
    more = run("distill", "--resume", "--name", "teacher-small", "--steps", "3")
    exported = run("export", "runs/teacher-small", "--compare", "1")

    assert "compact of width 4 with 1 blocks" in first
    assert "3 pictures, translated by teacher.pth at 32 and 36 px" in first
    assert "step_0000002.pt" in more
    assert "Changed: schedule.steps" in more
    assert "generator-fp32.onnx" in exported
    assert (folder / "runs/teacher-small/checkpoints/step_0000003.pt").is_file()


def test_a_student_starts_from_another_one_and_has_its_shape(folder: Path) -> None:
    run("distill", "teacher.pth", "data", "--steps", "2", "--name", "first", *SMALL)

    output = run("distill", "teacher.pth", "data", "--steps", "1", "--name", "second", "--from", "runs/first", *PLAIN,
                 "--set", "optimiser.learning_rate=1e-9")  # fmt: skip

    first = read_torch_file(folder / "runs/first/checkpoints/step_0000002.pt")
    second = read_torch_file(folder / "runs/second/checkpoints/step_0000001.pt")
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert "Starting from" in output
    assert second["config"]["generator"] == first["config"]["generator"]
    assert second["config"]["origin"]["step"] == 2
    assert all(torch.allclose(second["student"][name], one, atol=1e-6) for name, one in first["average"].items())


def test_a_student_becomes_wider_and_goes_on(folder: Path) -> None:
    run("distill", "teacher.pth", "data", "--steps", "1", "--name", "first", *SMALL)

    wider = ["--set", "generator.width=8", "--set", "optimiser.learning_rate=1e-9"]
    run("distill", "teacher.pth", "data", "--steps", "1", "--name", "second", "--from", "runs/first", *PLAIN, *wider)

    _, before, _ = load_generator(folder / "runs/first/checkpoints/step_0000001.pt", "ab")
    _, after, _ = load_generator(folder / "runs/second/checkpoints/step_0000001.pt", "ab")
    picture = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    assert sum(one.numel() for one in after.parameters()) > 2 * sum(one.numel() for one in before.parameters())
    torch.testing.assert_close(after(picture), before(picture), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["teacher.pth", "--steps", "1"], "does not know its pictures"),
        (["teacher.pth", "data", "--set", "generator.dropout=true"], "dropout"),
        (["teacher.pth", "data", "--set", "schedule.policy=plateau"], "plateau"),
        (["teacher.pth", "data", "--size", "33"], "multiple of 4"),
        (["teacher.pth", "data", "--budget", "soon"], "--budget is 'soon'"),
        (["teacher.pth", "nowhere", "--steps", "1", *SMALL], "nowhere is not there"),
        (["teacher.pth", "data", "--device", NAME], "add --budget MS"),
        (["teacher.pth", "data", "--budget", "5ms", "--device", "jetson"], f"'jetson' is neither .* {NAME}"),
        (["teacher.pth", "data", "--size", "64", "--budget", "5ms", "--device", NAME], "add --size 256, or measure"),
        (["--resume", "--budget", "5ms"], "leave out TEACHER, --budget and --from"),
        (["--resume", "--from", "teacher.pth"], "leave out TEACHER, --budget and --from"),
        (["teacher.pth", "data", "--from", "teacher.pth", "--budget", "5ms"], "leave out --budget, or --from"),
        (["teacher.pth", "data", "--from", "nowhere.pth"], "nowhere.pth"),
        (["teacher.pth", "data", "--from", "other_ba.pth"], "no generator ab"),
        (
            ["teacher.pth", "data", "--from", "other_ab.pth", "--steps", "1", "--set", "generator.width=8"],
            "can become wider and lose blocks, but this would be resnet 8x1 from resnet 4x1",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(folder: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        run("distill", *arguments)
    assert type(caught.value).__module__ == "cyclegan_edge.errors"
    assert not (folder / "runs").exists() or not any((folder / "runs").iterdir())


def test_a_student_for_another_device_is_the_largest_of_its_table(folder: Path) -> None:
    report = json.loads((RECORDED / f"{NAME}.json").read_text())
    report.update(date="2026-11-27", size=32, models=report["models"][:2])
    report["machine"].update(name="A [small] board", cpu="Cortex")
    for model, shape, milliseconds in zip(report["models"], ("16x3", "16x6"), (4.6, 9.0), strict=True):
        row = {**model["rows"][0], "engine": "ncnn", "precision": "fp32", "device": "CPU", "median_ms": milliseconds}
        model.update(architecture=f"compact {shape}", rows=[row])
    (folder / "board.json").write_text(json.dumps(report))

    options = ["--steps", "1", *PLAIN]  # the shape is the table's
    output = run("distill", "teacher.pth", "data", "--budget", "5ms", "--device", "board.json", *options)

    assert "within 5 ms at 32 px, as measured on 2026-11-27 on A [small] board, Cortex, CPU:" in output
    assert "width 16, 3 blocks: 4.6 ms with ncnn fp32" in output
    assert "compact of width 16 with 3 blocks" in output


def test_a_run_goes_on_with_its_last_readable_checkpoint_and_its_own_shape(folder: Path) -> None:
    run("distill", "teacher.pth", "data", "--steps", "2", "--set", "output.save_every=1", *SMALL)
    (folder / "runs/teacher-small/checkpoints/step_0000002.pt").write_bytes(b"damaged")

    output = run("distill", "--resume", "--steps", "3")
    with pytest.raises(ConfigError, match=r"generator\.width cannot change"):
        run("distill", "--resume", "--set", "generator.width=8")

    assert "step_0000001.pt" in output
    assert "damaged" in output


def test_a_training_is_not_gone_on_with_as_a_distillation(folder: Path) -> None:
    (folder / "runs/other/checkpoints").mkdir(parents=True)
    torch.save({"format": 2}, folder / "runs/other/checkpoints/step_0000001.pt")

    with pytest.raises(CheckpointError, match="no checkpoint of a distillation"):
        run("distill", "--resume", "--name", "other")


def test_milliseconds_are_read_as_people_write_them() -> None:
    assert [_milliseconds(text) for text in ("16", "16ms", "2.5 ms")] == [16.0, 16.0, 2.5]
    for text in ("", "0", "-3", "nan", "1e3", "16s"):
        with pytest.raises(ConfigError, match="--budget 16ms"):
            _milliseconds(text)
