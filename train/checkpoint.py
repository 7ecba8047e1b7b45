"""Checkpoints: one file that holds everything a run needs to go on exactly where it stopped.

    runs/scenes/checkpoints/step_0001000.pt

Written whole or not at all; the last `KEEP` stay. Read with weights_only=True: tensors and plain values, no code.
"""

import contextlib
import re
from pathlib import Path
from typing import Any

import torch

from cyclegan_edge.errors import CheckpointError, ConfigError, first_line
from cyclegan_edge.files import atomic_file
from cyclegan_edge.settings import from_mapping, to_mapping
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.networks import ResnetGenerator
from cyclegan_edge.train.step import TrainState, new_state

FORMAT = 1  # raised when an entry changes its meaning or goes away
KEEP = 2

_FOLDER = "checkpoints"
_NAME = re.compile(r"step_(\d+)\.pt")


def save_checkpoint(run: Path, config: TrainConfig, state: TrainState) -> Path:
    """Write run/checkpoints/step_N.pt, then remove all but the last two and what a killed process left.

    Raises CheckpointError on a full disk."""
    path = run / _FOLDER / f"step_{state.step:07d}.pt"
    content = {
        "format": FORMAT,
        "config": to_mapping(config),
        "step": state.step,
        "networks": {name: network.state_dict() for name, network in state.networks.items()},
        "generators": state.generators.state_dict(),
        "discriminators": state.discriminators.state_dict(),
        "replay_a": state.replay_a.state_dict(),
        "replay_b": state.replay_b.state_dict(),
    }
    try:
        with atomic_file(path) as partial:
            torch.save(content, partial)
    except (OSError, RuntimeError) as error:  # torch reports a short write as RuntimeError
        kept = find_checkpoint(run)
        raise CheckpointError(
            f"The checkpoint {path} could not be written ({first_line(error)}); free some space and continue with "
            f"`cyclegan-edge train --resume`{f' from {kept}' if kept else ''}."
        ) from error
    halves = path.parent.glob(".step_*.partial.pt")  # of a process that was killed while saving
    for old in (*_checkpoints(run)[:-KEEP], *halves):
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def find_checkpoint(run: Path) -> Path | None:
    """The checkpoint of `run` with the most steps; None when it has none."""
    found = _checkpoints(run)
    return found[-1] if found else None


def load_config(path: Path) -> TrainConfig:
    """The settings a checkpoint was trained with."""
    return _config(_read(path), path)


def load_checkpoint(path: Path, device: torch.device) -> tuple[TrainConfig, TrainState]:
    """Settings and state to go on with. Raises CheckpointError when the file is missing, damaged or of another kind."""
    content = _read(path)
    config = _config(content, path)
    state = new_state(config, device)
    try:
        for name, network in state.networks.items():
            network.load_state_dict(content["networks"][name])
        state.generators.load_state_dict(content["generators"])
        state.discriminators.load_state_dict(content["discriminators"])
        for replay, name in ((state.replay_a, "replay_a"), (state.replay_b, "replay_b")):
            saved = content[name]
            replay.load_state_dict({"pictures": saved["pictures"].to(device), "random": saved["random"]})
        state.step = int(content["step"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not fit its own settings ({first_line(error)}); use an older checkpoint."
        ) from error
    return config, state


def load_generator(path: Path, direction: str) -> tuple[TrainConfig, ResnetGenerator, int]:
    """Settings, the generator of `direction` ("ab" or "ba") on the CPU in eval mode, and the step it was saved at."""
    content = _read(path)
    config = _config(content, path)
    generator = ResnetGenerator(config.generator)
    try:
        generator.load_state_dict(content["networks"][f"generator_{direction}"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not fit its own settings ({first_line(error)}); use an older checkpoint."
        ) from error
    return config, generator.eval(), int(content["step"])


def _checkpoints(run: Path) -> list[Path]:
    """Sorted by step, fewest first."""
    found = {int(match[1]): path for path in (run / _FOLDER).glob("step_*.pt") if (match := _NAME.fullmatch(path.name))}
    return [found[step] for step in sorted(found)]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}; name a file that `cyclegan-edge train` wrote.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive raises many kinds; each means the same here
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({first_line(error)}); use an older one."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this version, expected format {FORMAT} of `cyclegan-edge train`."
        )
    return content


def _config(content: dict[str, Any], path: Path) -> TrainConfig:
    try:
        return from_mapping(TrainConfig, content["config"])
    except (KeyError, ConfigError, TypeError) as error:
        raise CheckpointError(f"{path} holds settings that this version cannot use ({error}).") from error
