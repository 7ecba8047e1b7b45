"""The commands in the order a person types them: data scenes, train, stop, resume, export, and what they refuse."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyclegan_edge.bundle import read_bundle
from cyclegan_edge.images import list_images

TINY = (
    "--size",
    "32",
    "--set",
    "generator.width=4",
    "--set",
    "generator.blocks=1",
    "--set",
    "discriminator.width=4",
    "--set",
    "device=cpu",
    "--set",
    "output.sample_every=20",
)


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `cyclegan-edge` in `folder`, as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "cyclegan_edge", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small scene data set in scenes/."""
    folder = tmp_path_factory.mktemp("place")
    made = command("data", "scenes", "--out", "scenes", "--train", "4", "--test", "2", "--size", "48", folder=folder)
    assert made.returncode == 0, made.stderr
    assert "cyclegan-edge train scenes" in made.stdout
    return folder


def test_the_three_commands_in_a_row_need_no_argument_after_the_data(place: Path) -> None:
    trained = command("train", "scenes", "--steps", "3", *TINY, folder=place)
    exported = command("export", "--fp16", folder=place)
    shown = command("webcam", "--source", "synthetic", "--headless", "--frames", "3", folder=place)

    assert trained.returncode == 0, trained.stderr
    assert "runs/scenes" in trained.stdout
    assert "Next: cyclegan-edge export --fp16" in trained.stdout
    assert exported.returncode == 0, exported.stderr
    assert "runs/scenes/checkpoints/step_0000003.pt" in exported.stdout
    assert "Next: cyclegan-edge webcam models/scenes" in exported.stdout
    assert shown.returncode == 0, shown.stderr
    assert "models/scenes" in shown.stdout
    bundle = read_bundle(place / "models" / "scenes")
    assert {artifact.precision for artifact in bundle.manifest.artifacts} == {"fp32", "fp16"}


def test_without_tensorrt_fp16_says_how_to_finish_on_the_device(place: Path) -> None:
    if subprocess.run([sys.executable, "-c", "import tensorrt"], capture_output=True, check=False).returncode == 0:
        pytest.skip("TensorRT is installed")
    command("train", "scenes", "--steps", "1", "--name", "engine", *TINY, folder=place)

    exported = command("export", "runs/engine", "--fp16", folder=place)

    assert exported.returncode == 0, exported.stderr
    assert "No engine was built: TensorRT is not installed" in exported.stdout
    assert "cyclegan-edge export models/engine --fp16" in exported.stdout
    assert (place / "models" / "engine" / "generator-fp16.onnx").is_file()


def test_ctrl_c_saves_and_resume_goes_on(place: Path) -> None:
    run = place / "runs" / "stopped"

    with training("scenes", "--name", "stopped", "--steps", "100000", *TINY, folder=place) as started:
        wait_for(run / "samples" / "step_0000020.jpg")
        started.send_signal(signal.SIGINT)
        printed, _ = started.communicate(timeout=60)
    (saved,) = (run / "checkpoints").iterdir()
    with training("--resume", "--name", "stopped", folder=place) as resumed:
        wait_for(run / "samples" / f"step_{20 * (step_of(saved) // 20 + 1):07d}.jpg")
        resumed.send_signal(signal.SIGTERM)
        resumed_printed, _ = resumed.communicate(timeout=60)

    assert started.returncode == resumed.returncode == 0
    assert f"Stopped after step {step_of(saved)} of 100000" in printed
    assert "train --resume --name stopped" in printed
    assert f"Continuing from runs/stopped/checkpoints/{saved.name}" in resumed_printed
    assert max(map(step_of, (run / "checkpoints").iterdir())) > step_of(saved)


@contextlib.contextmanager
def training(*arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`cyclegan-edge train` in the background, killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cyclegan_edge", "train", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not written"
        time.sleep(0.05)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step_"))


def test_a_second_run_gets_its_own_folder(place: Path) -> None:
    for _ in range(2):
        command("train", "scenes", "--name", "twice", "--steps", "1", *TINY, folder=place)

    assert (place / "runs" / "twice-2" / "checkpoints" / "step_0000001.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "error: No data: name the folder that holds trainA/ and trainB/"),
        (["train", "nowhere"], "has no folder trainA, expected trainA and trainB"),
        (["train", "scenes", "--set", "blcoks=6"], "blcoks is unknown; did you mean 'generator.blocks'?"),
        (
            ["train", "scenes", "--size", "250"],
            "size is 250, but the resnet generator needs a multiple of 4 from 32 on; try 248",
        ),
        (["train", "--resume", "--name", "none"], "runs/none has no checkpoint to continue from"),
        (["train", "scenes", "--steps", "3", "--minutes", "1"], "A run ends by one rule"),
        (["export", "nowhere"], "nowhere is neither a checkpoint, a run with checkpoints, nor a bundle"),
        (["webcam", "scenes", "--source", "synthetic", "--headless"], "scenes is no exported model"),
        (["demo", "--out", "scenes"], "scenes holds testA, which is no part of a demo"),
        (["data", "scenes", "--out", "scenes"], "scenes"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(place: Path, arguments: list[str], sentence: str) -> None:
    result = command(*arguments, folder=place)

    assert result.returncode == 1
    assert sentence in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_the_demo_runs_from_end_to_end(tmp_path: Path) -> None:
    result = command("demo", "--out", "demo", "--steps", "2", folder=tmp_path)

    assert result.returncode == 0, result.stderr
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written == {"scenes", "run", "model", "before-after.png", "video.mp4", "numbers.json"}
    assert len(list_images(tmp_path / "demo" / "scenes" / "truthB")) == 16
    assert "PSNR" in result.stdout


def test_training_streams_from_shards_and_goes_on_from_there(place: Path) -> None:
    pytest.importorskip("webdataset")
    packed = command("data", "pack", "scenes", "--out", "shards", folder=place)
    streamed = command("train", "shards/{0000..0000}.tar", "--name", "streamed", "--steps", "3", *TINY, folder=place)
    resumed = command("train", "--resume", "--name", "streamed", "--steps", "5", folder=place)

    assert packed.returncode == 0, packed.stderr
    assert streamed.returncode == 0, streamed.stderr
    assert "4 pictures of A, 4 of B in shards" in streamed.stdout
    assert resumed.returncode == 0, resumed.stderr
    assert (place / "runs" / "streamed" / "checkpoints" / "step_0000005.pt").is_file()


def test_what_the_networks_depend_on_cannot_change_on_the_way(place: Path) -> None:
    command("train", "scenes", "--name", "kept", "--steps", "1", *TINY, folder=place)

    refused = command("train", "--resume", "--name", "kept", "--set", "generator.width=8", folder=place)
    changed = command("train", "--resume", "--name", "kept", "--epochs", "1", "--set", "batch=2", folder=place)

    assert refused.returncode == 1
    assert "generator.width cannot change on the way" in refused.stderr
    assert changed.returncode == 0, changed.stderr
    assert "Changed: batch, schedule.epochs, schedule.steps." in changed.stdout
