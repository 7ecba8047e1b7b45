"""Checkpoints: one file that holds everything a run needs to go on exactly where it stopped.

Networks, both optimisers, gradient scale, schedule, replay buffers, averages, every random state, settings, counters;
`checkpoint_format.py` lists and checks the entries, `checkpoint_files.py` writes them.
"""

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.train.checkpoint_files import checkpoints, last_that_reads, load_optimiser, write_content
from cyclegan_edge.train.checkpoint_format import (
    FORMAT,
    RandomStates,
    check_content,
    check_networks,
    config_of,
    misfit,
    read_content,
)
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.distill.state import check_distillation, is_distillation, load_student
from cyclegan_edge.train.networks import GeneratorConfig, new_generator
from cyclegan_edge.train.state import TrainState, new_networks, new_state
from cyclegan_edge.train.torch_file import read_torch_file

_COUNTERS = ("step", "pairs", "seconds", "back_off", "best", "cycle_sum", "cycle_count", "bad_steps")  # of the state


def save_checkpoint(run: Path, config: TrainConfig, state: TrainState, *, best: bool = False) -> Path:
    """Write the checkpoint of this step, see `write_content`."""
    averages = state.averages
    content = {
        "format": FORMAT,
        "config": to_mapping(config),
        **{name: getattr(state, name) for name in _COUNTERS},
        "watch": state.diagnostics,
        "networks": {name: network.state_dict() for name, network in state.networks.items()},
        "averages": averages and {name: network.state_dict() for name, network in averages.items()},
        "generators": state.generators.state_dict(),
        "discriminators": state.discriminators.state_dict(),
        "scaler": state.scaler.state_dict(),
        "plateau": state.plateau.state_dict(),
        "replay_a": state.replay_a.state_dict(),
        "replay_b": state.replay_b.state_dict(),
        "random": _random_states(),
    }
    return write_content(run, state.step, content, keep=config.output.keep, best=best)


def check_space(run: Path, config: TrainConfig) -> str:
    """What to say where the disk of the folder `run` has no room for all checkpoints that are kept, else "".

    Raises CheckpointError where not even one fits.
    """
    with torch.device("meta"):  # shapes without memory
        weights = sum(weight.numel() for _, network in new_networks(config).items() for weight in network.parameters())
    one, free = 12 * weights, shutil.disk_usage(run).free  # bytes; each weight and its two moments in float32
    most = config.output.keep + 1 + bool(config.output.evaluate_every)  # the oldest goes when the next is whole
    missing = max(1, most - len(checkpoints(run)))
    if free < one:
        raise CheckpointError(
            f"A checkpoint takes {one / 2**20:.0f} MiB, but {free / 2**20:.0f} MiB are free where {run} is; free some "
            f"space."
        )
    if free < missing * one:
        return (
            f"{missing} checkpoints take {missing * one / 2**20:.0f} MiB, but {free / 2**20:.0f} MiB are free where "
            f"{run} is; free some space, or set output.keep=1."
        )
    return ""


def last_readable(run: Path) -> tuple[Path, TrainConfig, tuple[str, ...]]:
    """The last checkpoint of `run` that can be read, its settings, and for each later one why it cannot.

    Raises CheckpointError when there is none.
    """
    found, damaged = last_that_reads(run, lambda path: config_of(read_content(path), path))
    if found:
        return *found, damaged
    reason = f" ({damaged[0]})" if damaged else ""
    raise CheckpointError(
        f"{run} has no checkpoint to continue from{reason}; start again with `cyclegan-edge train DATA`."
    )


def load_checkpoint(
    path: Path, device: torch.device, config: TrainConfig | None = None
) -> tuple[TrainConfig, TrainState]:
    """Settings and state to go on with, and the random states of this process set to what they were.

    `config` goes on with other settings than those the checkpoint holds; its networks have to have the same shape.
    Raises CheckpointError when the file is missing, damaged or of another kind."""
    content = read_content(path)
    config = config or config_of(content, path)
    check_networks(content, config, path)
    state = new_state(config, device)
    averages = state.averages
    try:
        for name, network in state.networks.items():
            network.load_state_dict(content["networks"][name])
        if averages is not None:  # a run that had none until now starts them from its weights
            for name, network in averages.items():
                network.load_state_dict((content["averages"] or content["networks"])[name])
        load_optimiser(state.generators, content["generators"])
        load_optimiser(state.discriminators, content["discriminators"])
        if content["config"]["speed"]["precision"] == config.speed.precision:  # the scale of another means nothing here
            state.scaler.load_state_dict(dict(content["scaler"]))
        state.plateau.load_state_dict(content["plateau"])
        for replay, saved in ((state.replay_a, content["replay_a"]), (state.replay_b, content["replay_b"])):
            pictures = [picture.to(device) for picture in saved["pictures"]]
            replay.load_state_dict({"pictures": pictures, "random": saved["random"]})
        entries: Mapping[str, object] = content
        for name in _COUNTERS:
            value = entries[name]
            setattr(state, name, value.to(device) if isinstance(value, Tensor) else value)
        state.diagnostics = content["watch"]
        _set_random_states(content["random"])
    except Exception as error:  # each part has its own way to refuse what does not fit it
        raise misfit(path, error) from error
    return config, state


class GeneratorConfigured(Protocol):
    """The settings of a training or of a distillation, as far as they say what a generator is for."""

    @property
    def data(self) -> str: ...

    @property
    def domains(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def generator(self) -> GeneratorConfig: ...


def load_generator(
    path: Path, direction: Direction, content: object = None
) -> tuple[GeneratorConfigured, nn.Module, int]:
    """Settings, the generator of `direction` on the CPU in eval mode, and the step it was saved at.

    `content` is what `read_torch_file` gave of `path`, where it has been read already. A run with a moving average
    gives that: it is what the run was averaged for. Raises CheckpointError, also for the other direction of a student.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}; name a file that `cyclegan-edge train` wrote.")
    content = content or read_torch_file(path)
    if is_distillation(content):
        taught = check_distillation(content, path)
        distilled, student = load_student(taught, path)
        if distilled.direction != direction:
            raise CheckpointError(
                f"{path} holds a student of the direction {distilled.direction} alone, not {direction}; leave the "
                f"direction out, or distil the other one."
            )
        return distilled, student, taught["step"]
    content = check_content(content, path)
    config = config_of(content, path)
    check_networks(content, config, path)
    channels = config.pictures.channels_a, config.pictures.channels_b
    generator = new_generator(config.generator, *(channels if direction == "ab" else reversed(channels)))
    generator.load_state_dict((content["averages"] or content["networks"])[f"generator_{direction}"])
    return config, generator.eval(), content["step"]


def _random_states() -> RandomStates:
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  # a user's own code may use it
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, [int(key) for key in keys], *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_random_states(saved: RandomStates) -> None:
    version, words, gauss = saved["python"]
    name, keys, *rest = saved["numpy"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"])
