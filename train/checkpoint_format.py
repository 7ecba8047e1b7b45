"""The entries of a checkpoint, and their check: a checkpoint is data from outside, whoever wrote it.

`check_content` checks the type of every entry, `check_networks` the names and shapes of all weights, before anything is
built from them; so memory stays within a few times the file's size, and a malformed entry is one sentence.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from cyclegan_edge.errors import CheckpointError, ConfigError, first_line
from cyclegan_edge.schema import from_mapping
from cyclegan_edge.train.checkpoint_files import OptimiserState
from cyclegan_edge.train.config import RETIRED, TrainConfig
from cyclegan_edge.train.diagnostics import DiagnosticsState
from cyclegan_edge.train.distill.state import is_distillation
from cyclegan_edge.train.replay import ReplayState
from cyclegan_edge.train.schedule import PlateauState
from cyclegan_edge.train.state import new_networks
from cyclegan_edge.train.torch_file import read_torch_file

FORMAT = 2  # raised when an entry changes its meaning or goes away

_MAX_COUNT = 1 << 53  # of steps and pairs


class ScalerState(TypedDict, total=False):
    """What GradScaler.state_dict gives; nothing when it is disabled."""

    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    _growth_tracker: int


class RandomStates(TypedDict):
    """Of Python, numpy and torch; the replay buffers and the loader have their own."""

    python: list[Any]
    numpy: list[Any]
    torch: Tensor
    cuda: Tensor | None


class Content(TypedDict):
    """The entries of a checkpoint."""

    format: int
    config: dict[str, Any]
    step: int
    pairs: int
    seconds: float
    back_off: float
    best: dict[str, float]
    cycle_sum: Tensor  # 0-d
    cycle_count: int
    bad_steps: Tensor  # 0-d
    watch: DiagnosticsState | None
    networks: dict[str, dict[str, Tensor]]
    averages: dict[str, dict[str, Tensor]] | None
    generators: OptimiserState
    discriminators: OptimiserState
    scaler: ScalerState
    plateau: PlateauState
    replay_a: ReplayState
    replay_b: ReplayState
    random: RandomStates


def read_content(path: Path) -> Content:
    """The entries of the checkpoint `path`. Raises CheckpointError when it is missing, damaged or malformed."""
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}; name a file that `cyclegan-edge train` wrote.")
    return check_content(read_torch_file(path), path)


def is_checkpoint(content: object) -> bool:
    """Whether a file holds what `train` writes, whatever its version, and not the weights of somebody else."""
    return isinstance(content, dict) and {"config", "format", "networks"} <= content.keys()


def check_content(content: object, path: Path) -> Content:
    """The entries that `path` was found to hold, checked. Raises CheckpointError."""
    if is_distillation(content):
        raise CheckpointError(f"{path} is of a distillation; go on with `cyclegan-edge distill --resume`.")
    if not isinstance(content, dict) or type(content.get("format")) is not int or content["format"] != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this version, expected format {FORMAT} of `cyclegan-edge train`."
        )
    try:
        from_mapping(Content, content)
        _check_values(content)
    except (ConfigError, ValueError) as error:
        raise misfit(path, error) from error
    needed = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(content))
    try:
        size = path.stat().st_size
    except OSError as error:  # a later one took its place since it was read
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its name and permissions.") from error
    if needed > size:
        raise misfit(path, ValueError(f"its tensors have {needed} bytes, the file has {size}"))
    return cast("Content", content)


def config_of(content: Content, path: Path) -> TrainConfig:
    """The settings of a run, without those that were retired. Raises CheckpointError for others that are unknown.

    The pixel discriminator went with its setting, so that value is one of the others."""
    kept = {
        table: {key: item for key, item in value.items() if f"{table}.{key}" not in RETIRED or item == "pixel"}
        if isinstance(value, Mapping)
        else value
        for table, value in content["config"].items()
    }
    try:
        return from_mapping(TrainConfig, kept)
    except ConfigError as error:
        raise CheckpointError(f"{path} holds settings that this version cannot use ({first_line(error)}).") from error


def check_networks(content: Content, config: TrainConfig, path: Path) -> None:
    """Raise CheckpointError unless all networks and averages have the names and shapes that `config` gives them."""
    with torch.device("meta"):  # shapes without memory
        networks = dict(new_networks(config).items())
    generators = {name: network for name, network in networks.items() if name.startswith("generator")}
    try:
        _compare(networks, content["networks"], "networks")
        if content["averages"]:
            _compare(generators, content["averages"], "averages")
    except ValueError as error:
        raise misfit(path, error) from error


def misfit(path: Path, error: Exception) -> CheckpointError:
    """The sentence for a checkpoint whose entries do not fit each other."""
    return CheckpointError(f"{path} does not fit its own settings ({first_line(error)}); use an older checkpoint.")


def _check_values(content: Mapping[str, Any]) -> None:
    for name in ("step", "pairs", "cycle_count"):
        if not 0 <= content[name] <= _MAX_COUNT:
            raise ValueError(f"{name} is {content[name]}, expected 0 to {_MAX_COUNT}")
    for name in ("seconds", "back_off"):
        if not 0 <= content[name] < math.inf:
            raise ValueError(f"{name} is {content[name]}, expected a finite number from 0 on")
    for name in ("cycle_sum", "bad_steps"):
        if content[name].ndim or not content[name].is_floating_point():
            raise ValueError(f"{name} is not a floating-point number")
    for name in ("replay_a", "replay_b"):
        if any(picture.ndim != 3 or not picture.is_floating_point() for picture in content[name]["pictures"]):
            raise ValueError(f"{name} holds a tensor that is not a picture (C, H, W)")
    if watch := content["watch"]:
        if any(len(since) != 2 for since in watch["since"].values()):
            raise ValueError("watch.since holds a list that is not of two integers")
        if len({len(picture) for pictures in watch["seen"].values() for picture in pictures}) > 1:
            raise ValueError("watch.seen holds pictures of different sizes")
    for tensor in _tensors(content):
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_nested:
            raise ValueError("a tensor has no values of its own")


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _compare(networks: Mapping[str, nn.Module], saved: Mapping[str, Mapping[str, Tensor]], entry: str) -> None:
    for name, network in networks.items():
        expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        found = {key: tuple(value.shape) for key, value in saved.get(name, {}).items()}
        for key in [*expected, *found]:
            if expected.get(key) != found.get(key):
                raise ValueError(f"{entry}.{name}.{key} has the shape {found.get(key)}, expected {expected.get(key)}")
