"""Two processes of torchrun train as one process with their batch, and take over each other's checkpoints."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.images import write_image
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.folders import FolderPairs, find_pictures
from cyclegan_edge.train.distributed import ProcessGroup, join_process_group
from cyclegan_edge.train.loop import choose_execution, fit

SETTINGS = (
    "size=32", "batch=2", "generator.width=4", "generator.blocks=1", "discriminator.width=4", "objective.pool=3",
    "device=cpu", "speed.precision=fp32", "schedule.policy=constant", "output.save_every=4",
)  # fmt: skip
# `python -m cyclegan_edge`, which then names the threads of gloo that are left when Python ends. The kernel may list a
# thread for a moment after it was joined.
COMMAND = """
import atexit, contextlib, pathlib, runpy, sys, time
def threads_of_gloo():
    for path in pathlib.Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):
            if "gloo" in (name := path.read_text().strip()):
                yield name
def name_threads():
    deadline = time.monotonic() + 2
    while (names := list(threads_of_gloo())) and time.monotonic() < deadline:
        time.sleep(0.05)
    print("LEFT:", *names, file=sys.stderr)
atexit.register(name_threads)
runpy.run_module("cyclegan_edge", run_name="__main__")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "command.py").write_text(COMMAND, encoding="utf-8")
    rng = np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (folder / "data" / domain).mkdir(parents=True)
        for number in range(5):
            picture = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
            write_image(folder / "data" / domain / f"{number}.png", picture)
    return folder


def train_as_two(place: Path, *arguments: str) -> str:
    """`cyclegan-edge train` as two processes of torchrun; what it printed."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    done = subprocess.run(
        [*torchrun, place / "command.py", "train", *arguments, *settings],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines().count("LEFT:") == 2, done.stderr
    return done.stdout


def train_as_one(place: Path, name: str, steps: int) -> None:
    """The same in this process, from the last checkpoint of the run on if it has one."""
    given = {"data": str(place / "data"), "schedule.steps": steps}
    config = load_settings(TrainConfig, None, SETTINGS, overrides=given)
    pairs = FolderPairs(find_pictures(Path(config.data)), config.seed)
    run = place / "runs" / name
    for _ in fit(config, pairs, run, resume=find_checkpoint(run)):
        pass


def last_checkpoint(place: Path, name: str) -> dict[str, Any]:
    path = find_checkpoint(place / "runs" / name)
    assert path is not None
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for name, state in checkpoint["networks"].items() for key, value in state.items()}


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """But for float rounding, which Adam makes a full step of where a gradient is nothing but rounding."""
    for name in one:
        if name.endswith("weight"):
            off = (one[name] - other[name]).abs().gt(1e-5).float().mean().item()
            assert off < 0.01, name


def test_two_processes_equal_one_and_continue_each_other(place: Path) -> None:
    """Mixed: four steps as two processes, two as one, two as two again."""
    train_as_one(place, "one", 8)
    printed = train_as_two(place, "data", "--name", "two", "--steps", "8")
    checkpoints = place / "runs" / "mixed" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(place / "runs" / "two" / "checkpoints" / "step_0000004.pt", checkpoints)
    train_as_one(place, "mixed", 6)
    train_as_two(place, "--resume", "--name", "mixed", "--steps", "8")

    assert printed.count("Training in") == 1
    assert "2 processes on the CPU" in printed
    assert not (place / "runs" / "two-2").exists()
    one, two, mixed = (last_checkpoint(place, name) for name in ("one", "two", "mixed"))
    assert one["step"] == two["step"] == mixed["step"] == 8
    assert one["pairs"] == two["pairs"] == mixed["pairs"] == 16
    assert_close(weights(one), weights(two))
    assert_close(weights(one), weights(mixed))
    for mine, theirs in zip(one["replay_a"]["pictures"], two["replay_a"]["pictures"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-3)


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    config = load_settings(TrainConfig, None, ["batch=3"], overrides={"data": "none", "device": "cpu"})

    with pytest.raises(ConfigError, match=r"batch is 3.* 2 processes.* batch=2"):
        choose_execution(config, ProcessGroup(0, 2))


@pytest.mark.parametrize(
    ("variables", "facts"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is '2' and RANK is ''"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two' and WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK is '-1'"),
    ],
)
def test_a_world_size_without_torchrun_is_a_sentence(
    variables: dict[str, str], facts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=f"{facts}.*unset WORLD_SIZE"):
        join_process_group("cpu")
