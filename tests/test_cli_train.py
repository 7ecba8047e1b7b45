"""The commands in the order a person types them: data scenes, train, stop, resume, export, and what they refuse."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cyclegan_edge.bundle import read_bundle
from cyclegan_edge.cli import app, console, main
from cyclegan_edge.errors import ConfigError, SinkError

TINY = [
    *("--size", "32"),
    *(
        part
        for setting in ("generator.width=4", "generator.blocks=1", "discriminator.width=4", "device=cpu")
        for part in ("--set", setting)
    ),
]

Command = Callable[..., str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small scene data set in scenes/."""
    folder = tmp_path_factory.mktemp("place")
    said = typed("data", "scenes", "--out", "scenes", "--train", "4", "--test", "2", "--size", "48", folder=folder)
    assert "cyclegan-edge train scenes" in said
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> str:
    """What the first training of scenes/ printed; it is runs/scenes."""
    return typed("train", "scenes", "--steps", "1", *TINY, folder=place)


@pytest.fixture(scope="module")
def exported(place: Path, trained: str) -> str:
    """What the export of that run printed; it is models/scenes."""
    assert trained
    return typed("export", "--fp16", folder=place)


def typed(*arguments: str, folder: Path) -> str:
    """Run `cyclegan-edge` in `folder`; what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_three_commands_in_a_row_need_no_argument_after_the_data(place: Path, trained: str, exported: str) -> None:
    shown = typed("webcam", "--source", "synthetic", "--headless", "--frames", "3", folder=place)

    assert "runs/scenes" in trained
    assert "Next: cyclegan-edge export --fp16" in trained
    assert "runs/scenes/checkpoints/step_0000001.pt" in exported
    assert "Next: cyclegan-edge webcam models/scenes" in exported
    assert "models/scenes" in shown
    bundle = read_bundle(place / "models" / "scenes")
    assert {artifact.precision for artifact in bundle.manifest.artifacts} == {"fp32", "fp16"}


def test_ctrl_c_twice_at_once_saves_and_resume_goes_on(place: Path) -> None:
    run = place / "runs" / "stopped"
    arguments = ["scenes", "--name", "stopped", "--steps", "100000", *TINY, "--set", "output.sample_every=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cyclegan_edge", "train", *arguments],
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        assert process.stdout is not None
        wait_for(run / "samples" / "step_0000002.jpg")
        process.send_signal(signal.SIGINT)
        heard = next(line for line in process.stdout if "Finishing" in line)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    (saved,) = (run / "checkpoints").iterdir()
    step = int(saved.stem.removeprefix("step_"))
    resumed = typed("train", "--resume", "--name", "stopped", "--steps", str(step + 1), folder=place)

    assert "saving" in heard
    assert process.returncode == 0
    assert f"Stopped after step {step} of 100000" in printed
    assert "train --resume --name stopped" in printed
    assert f"Continuing from runs/stopped/checkpoints/{saved.name}" in resumed
    assert (run / "checkpoints" / f"step_{step + 1:07d}.pt").is_file()


def test_two_trainings_that_start_together_get_a_folder_each_and_neither_is_resumed_by_a_third(place: Path) -> None:
    arguments = ["scenes", "--name", "twins", "--steps", "100000", *TINY, "--set", "output.save_every=2"]
    command = [sys.executable, "-m", "cyclegan_edge", "train"]
    runs = [place / "runs" / name for name in ("twins", "twins-2")]
    twins = [subprocess.Popen([*command, *arguments], cwd=place, stdout=subprocess.PIPE, text=True) for _ in runs]
    try:
        for run in runs:
            wait_for(run / "checkpoints")
        third = subprocess.run(
            [*command, "--resume", "--name", "twins"], cwd=place, capture_output=True, text=True, check=False
        )
        for twin in twins:
            twin.send_signal(signal.SIGTERM)
        ends = [twin.communicate(timeout=120)[0] for twin in twins]
    finally:
        for twin in twins:
            twin.kill()
            twin.wait()

    assert [twin.returncode for twin in twins] == [0, 0]
    assert sorted("twins-2" in end for end in ends) == [False, True]
    assert third.returncode == 1
    assert "Another process is training in runs/twins;" in third.stderr
    assert third.stderr.count("\n") == 1


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not written"
        time.sleep(0.05)


def test_a_second_run_gets_its_own_folder(place: Path, trained: str) -> None:
    said = typed("train", "scenes", "--steps", "1", *TINY, folder=place)

    assert "so this is" not in trained
    assert "runs/scenes is there already (add --resume to continue it), so this is runs/scenes-2" in said
    assert (place / "runs" / "scenes-2" / "checkpoints" / "step_0000001.pt").is_file()


def test_a_run_starts_from_another_and_goes_on_without_it(place: Path, trained: str) -> None:
    assert trained
    shutil.copytree(place / "runs" / "scenes", place / "other" / "runs" / "first")
    other, tuned = place / "other", place / "other" / "runs" / "tuned"
    shutil.copytree(place / "scenes", other / "scenes")

    said = typed("train", "scenes", "--from", "runs/first", "--name", "tuned", "--steps", "1", folder=other)
    shutil.rmtree(other / "runs" / "first")
    resumed = typed("train", "--resume", "--steps", "2", folder=other)

    assert "Starting from all four networks of runs/first/checkpoints/step_0000001.pt." in joined(said)
    assert "32 px, resnet of width 4;" in joined(said)
    assert "Continuing from runs/tuned/checkpoints/step_0000001.pt" in resumed
    assert "step = 1\n" in (tuned / "settings.toml").read_text().partition("[origin]")[2]
    assert (tuned / "checkpoints" / "step_0000002.pt").is_file()


def test_a_run_starts_from_anyone_s_generator_and_says_what_starts_fresh(place: Path, trained: str) -> None:
    assert trained
    checkpoint = torch.load(place / "runs" / "scenes" / "checkpoints" / "step_0000001.pt", weights_only=True)
    torch.save(checkpoint["networks"]["generator_ba"], place / "winter_ba.pth")

    said = typed("train", "scenes", "--from", "winter_ba.pth", "--name", "theirs", "--steps", "1", *TINY, folder=place)

    assert "Starting from the generator of winter_ba.pth (ResNet, 1 block, 4 channels, instance norm)" in joined(said)
    assert "which is B to A; the other generator and both discriminators start fresh." in joined(said)


def test_a_run_starts_from_the_model_that_comes_with_the_package(place: Path) -> None:
    small = ["--size", "32", "--set", "discriminator.width=4", "--set", "device=cpu"]

    said = typed("train", "scenes", "--from", "landscapes", "--name", "winter", "--steps", "1", *small, folder=place)

    assert "models/landscapes, which is A to B; the other generator and both" in joined(said)
    assert "32 px, compact of width 32;" in joined(said)
    assert (place / "runs" / "winter" / "checkpoints" / "step_0000001.pt").is_file()


def joined(said: str) -> str:
    """Without the breaks of the lines."""
    return " ".join(said.split())


def test_from_refuses_what_it_cannot_train_and_a_direction_that_is_not_missing(place: Path, trained: str) -> None:
    assert trained

    with pytest.raises(ConfigError, match=r"landscapes says what its generator is; leave out --direction ba"):
        typed("train", "scenes", "--from", "landscapes", "--direction", "ba", folder=place)
    with pytest.raises(ConfigError, match=r"says what its networks are; leave out --direction ba"):
        typed("train", "scenes", "--from", "runs/scenes", "--direction", "ba", folder=place)


def test_into_a_file_progress_is_printed_line_by_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_EVERY", 0.0)

    said = typed("train", "scenes", "--name", "lines", "--steps", "3", *TINY, folder=place)

    assert [f"training {step}/3" in said for step in (1, 2, 3)] == [True, True, True]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["train"], "trainA/ and trainB/"),
        (["train", "nowhere"], "nowhere is not there"),
        (
            ["train", "scenes", "--domains", "summer"],
            "expected the names of two domains with a comma, as in summer,winter",
        ),
        (["train", "scenes", "--set", "blcoks=6"], "did you mean 'generator.blocks'?"),
        (["train", "scenes", "--size", "250"], "size is 250"),
        (["train", "--resume", "--name", "none"], "runs/none has no checkpoint"),
        (["train", "--resume", "--preset", "paper"], "--preset"),
        (["train", "--resume", "--from", "runs/scenes"], "leave out --from"),
        (["train", "scenes", "--direction", "ba"], "--from"),
        (["train", "scenes", "--from", "nowhere"], "nowhere is neither a checkpoint"),
        (["train", "scenes", "--from", "scenes/trainA/scene_0001.png"], "is damaged or not a .pth"),
        (["train", "scenes", "--steps", "3", "--minutes", "1"], "steps and minutes"),
        (["export", "nowhere"], "nowhere is neither a checkpoint"),
        (["webcam", "scenes", "--source", "synthetic", "--headless"], "scenes is no exported model"),
        (["demo", "--out", "scenes"], "scenes holds testA"),
        (["data", "scenes", "--out", "scenes"], "scenes"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(
    place: Path,
    arguments: list[str],
    facts: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["cyclegan-edge", *arguments])

    with pytest.raises(SystemExit) as end:
        main()

    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith("error: ")
    assert facts in said
    assert said.count("\n") == 1


def test_training_streams_from_shards_and_goes_on_from_there(place: Path) -> None:
    typed("data", "pack", "scenes", "--out", "shards", folder=place)

    streamed = typed("train", "shards/{0000..0000}.tar", "--name", "streamed", "--steps", "1", *TINY, folder=place)
    typed("train", "--resume", "--name", "streamed", "--steps", "2", folder=place)

    assert "4 pictures of A, 4 of B in shards" in streamed
    assert (place / "runs" / "streamed" / "checkpoints" / "step_0000002.pt").is_file()


def test_settings_that_change_on_the_way_are_named(place: Path, trained: str) -> None:
    assert trained

    changed = typed("train", "--resume", "--name", "scenes", "--epochs", "1", "--set", "batch=2", folder=place)

    assert "Changed: batch, schedule.epochs, schedule.steps." in changed


def test_names_in_brackets_or_of_other_bytes_are_printed_whole_whatever_the_terminal_can_show(place: Path) -> None:
    data = place / "scenes[final]"
    shutil.copytree(place / "scenes", data)
    (data / "trainA" / os.fsdecode(b"br\xf6ken[final].png")).write_bytes(b"no picture")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1:strict", "COLUMNS": "200"}

    def run(*arguments: str | bytes | Path) -> str:
        command = [sys.executable, "-m", "cyclegan_edge", *arguments]
        ended = subprocess.run(command, cwd=place, capture_output=True, env=environment, check=False)
        said = (ended.stdout + ended.stderr).decode("latin-1")
        assert "Traceback" not in said
        return said

    trained = run("train", data, "--name", "out[final]", "--steps", "1", *TINY)
    refused = run("train", data, "--name", b"\xe9")
    checked = run("data", "check", data, "--json", b"ch\xe9ck.json")
    packed = run("data", "pack", data, "--out", b"p\xe4cked")
    helped = run("webcam", "--help")

    assert "Training in runs/out[final] on" in trained
    assert "is not UTF-8" in refused
    assert (place / "runs" / "out[final]" / "report.html").is_file()
    assert all("ken[final].png" in said for said in (trained, checked, packed))
    assert "4 pictures of A and 4 of B" in packed
    assert "--source" in helped


@pytest.mark.parametrize(
    "error", [MemoryError("of numpy"), RuntimeError("CUDA out of memory. Tried to"), RuntimeError()]
)
def test_too_little_memory_is_a_sentence_and_another_error_is_not(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("cyclegan_edge.cli.app", fail)

    with pytest.raises((SystemExit, RuntimeError)) as end:
        main()

    known = bool(str(error))
    assert (end.type is SystemExit) == known
    assert ("error: There is not enough memory" in capsys.readouterr().err) == known


@pytest.mark.parametrize("arguments", [("data", "check", "scenes", "--json"), ("evaluate", "--out")])
def test_where_nothing_can_be_written_no_picture_is_read(
    place: Path, trained: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a picture was read")

    assert trained
    monkeypatch.setattr("cyclegan_edge.train.data.check._measure", read)
    monkeypatch.setattr("cyclegan_edge.train.evaluate.quality.read_image", read)
    (place / "file").touch()

    with pytest.raises(SinkError, match=r"file/figures.json cannot be written \((Not a directory|File exists)\)"):
        typed(*arguments, str(place / "file" / "figures.json"), folder=place)
