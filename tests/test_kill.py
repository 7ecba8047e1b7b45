"""Training that is killed, at any moment and again and again, and ends with the weights of a run that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyclegan_edge.images import write_image
from cyclegan_edge.train.checkpoint_files import find_checkpoint

KILLS = 20  # of which every fourth is in the middle of a save
STEPS = 150
LATEST = 0.08  # seconds after its first step in which a run is killed: some ten steps and three saves

SERVER = """
import json, os, sys, time
from pathlib import Path
import torch
import torch._dynamo  # which Adam imports: once here, not in every fork
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.folders import FolderPairs, find_pictures
from cyclegan_edge.train.loop import fit

def say(**what):
    print(json.dumps(what), flush=True)

def save_half(content, path):
    real_save(content, path)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:len(whole) // 2])
    say(at="saving")
    time.sleep(600)

real_save = torch.save
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child:
        say(at="started", pid=child)
        say(at="ended", status=os.waitpid(child, 0)[1])
        continue
    if order["half"]:
        torch.save = save_half
    config = load_settings(TrainConfig, overrides=order["config"])
    run = Path(order["run"])
    pairs = FolderPairs(find_pictures(Path(config.data)), config.seed)
    for number, _ in enumerate(fit(config, pairs, run, resume=find_checkpoint(run))):
        if not number:
            say(at="stepping")
    os._exit(0)
"""


class Trainer:
    """Starts a training process in a moment: torch is loaded once, every run is a fork of that."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, run: Path, *, half: bool = False) -> int:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"config": self._config, "run": str(run), "half": half}) + "\n")
        self._server.stdin.flush()
        return int(self.wait_for("started")["pid"])

    def wait_for(self, *places: str) -> dict[str, Any]:
        assert self._server.stdout is not None
        while line := self._server.stdout.readline():
            said: dict[str, Any] = json.loads(line)
            if said["at"] in places:
                return said
        raise AssertionError("the server has gone")

    def close(self) -> None:
        self._server.kill()
        self._server.communicate()


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (tmp_path / "data" / domain).mkdir(parents=True)
        for number in range(7):
            write_image(tmp_path / "data" / domain / f"{number}.png", rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    return {
        "data": str(tmp_path / "data"),
        "size": 32,
        "device": "cpu",
        "generator.width": 4,
        "generator.blocks": 1,
        "generator.dropout": True,
        "discriminator.width": 4,
        "objective.pool": 5,
        "objective.augment": "colour+translation+cutout",
        "optimiser.ema": 0.9,
        "schedule.steps": STEPS,
        "output.save_every": 3,
        "output.sample_every": STEPS,
    }


def test_a_run_killed_twenty_times_equals_one_that_was_not(config: dict[str, Any], tmp_path: Path) -> None:
    chance = random.Random(1)
    trainer = Trainer(config)
    halves = 0
    try:
        trainer.start(tmp_path / "whole")
        assert trainer.wait_for("ended")["status"] == 0
        for kill in range(KILLS):
            in_a_save = kill % 4 == 3
            child = trainer.start(tmp_path / "killed", half=in_a_save)
            assert trainer.wait_for("saving" if in_a_save else "stepping", "ended")["at"] != "ended"
            if not in_a_save:
                time.sleep(chance.uniform(0.0, LATEST))
            halves += len(list((tmp_path / "killed" / "checkpoints").glob(".*.partial.pt")))
            os.kill(child, signal.SIGKILL)
            assert trainer.wait_for("ended")["status"] == signal.SIGKILL
        trainer.start(tmp_path / "killed")
        assert trainer.wait_for("ended")["status"] == 0
    finally:
        trainer.close()

    assert halves >= KILLS // 4
    whole, killed = (contents(tmp_path / name) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    different = [key for key in whole if not torch.equal(whole[key], killed[key])]
    assert different == []
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))


def contents(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint: weights, moments, averages, replay buffers, random states."""
    path = find_checkpoint(run)
    assert path is not None
    assert path.name == f"step_{STEPS:07d}.pt"
    return dict(tensors("", torch.load(path, weights_only=True)))


def tensors(name: str, value: Any) -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        return [(name, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in tensors(f"{name}/{key}", inner)]
