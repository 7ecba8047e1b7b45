"""What a step of a distillation changes, and the checkpoint that holds all of it.

The pictures of a step are a function of the seed and its number, so nothing else decides how a run goes on.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from cyclegan_edge.errors import CheckpointError, ConfigError, first_line
from cyclegan_edge.schema import from_mapping, to_mapping
from cyclegan_edge.train.checkpoint_files import OptimiserState, load_optimiser, write_content
from cyclegan_edge.train.distill.config import DistillConfig
from cyclegan_edge.train.networks import init_weights, new_generator
from cyclegan_edge.train.state import Weights
from cyclegan_edge.train.torch_file import read_torch_file

FORMAT = 1  # raised when an entry changes its meaning or goes away
KIND = "distillation"

_HEADS_RATE = 4e-4
_MAX_COUNT = 1 << 53  # of steps
_YOUNG = 5.0  # steps times this, until the average has its whole decay: it forgets the start


@dataclass(slots=True)
class DistillState:
    """Everything that a step changes."""

    student: nn.Module
    average: nn.Module  # moving average of the student's weights: what is exported
    heads: nn.ModuleList
    optimiser: torch.optim.Adam
    heads_optimiser: torch.optim.Adam
    decay: float  # of the average; 0: it is the student
    step: int = 0
    seconds: float = 0.0  # in training

    def follow(self) -> None:
        """Count the step; average <- decay average + (1 - decay) weights, with less decay in the first steps."""
        decay = min(self.decay, 1.0 - 1.0 / (self.step / _YOUNG + 2.0))
        self.step += 1
        weights = [parameter.detach() for parameter in self.student.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), weights, 1.0 - decay)


class DistillContent(TypedDict):
    """The entries of a checkpoint."""

    kind: str
    format: int
    config: dict[str, Any]
    channels: list[int]  # of the pictures that go in and come out
    step: int
    seconds: float
    student: dict[str, Tensor]
    average: dict[str, Tensor]
    heads: dict[str, Tensor]
    optimiser: OptimiserState
    heads_optimiser: OptimiserState


def new_state(
    config: DistillConfig,
    device: torch.device,
    heads: nn.ModuleList,
    channels: tuple[int, int],
    weights: Weights | None = None,
) -> DistillState:
    """A fresh student and fresh heads, decided by `config.seed`. `channels`: of the pictures, in and out.

    `weights` are those of a student that does not start fresh. Raises CheckpointError when they do not fit."""
    random = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):  # torch's own initial weights are overwritten, and cost no random numbers
        student = new_generator(config.generator, *channels)
    for network in (student, heads):
        init_weights(network, random, "xavier", 1.0)
        network.to(device)
    if weights is not None:
        try:
            student.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"The student to start from has other weights than these settings ask for ({first_line(error)}); leave "
                f"out the settings of the generator."
            ) from error
    settings = config.optimiser
    average = copy.deepcopy(student).requires_grad_(False)
    optimiser = torch.optim.Adam(
        student.parameters(), lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True
    )
    heads_optimiser = torch.optim.Adam(heads.parameters(), lr=_HEADS_RATE, betas=(0.0, settings.beta2), fused=True)
    return DistillState(student, average, heads, optimiser, heads_optimiser, settings.ema)


def save_state(run: Path, config: DistillConfig, state: DistillState, channels: tuple[int, int]) -> Path:
    """Write the checkpoint of this step, see `write_content`."""
    content: DistillContent = {
        "kind": KIND,
        "format": FORMAT,
        "config": to_mapping(config),
        "channels": list(channels),
        "step": state.step,
        "seconds": state.seconds,
        "student": state.student.state_dict(),
        "average": state.average.state_dict(),
        "heads": state.heads.state_dict(),
        "optimiser": cast("OptimiserState", state.optimiser.state_dict()),
        "heads_optimiser": cast("OptimiserState", state.heads_optimiser.state_dict()),
    }
    return write_content(run, state.step, content, keep=config.output.keep)


def is_distillation(content: object) -> bool:
    """Whether this is what a checkpoint of a distillation holds."""
    return isinstance(content, dict) and content.get("kind") == KIND


def check_distillation(content: object, path: Path) -> DistillContent:
    """The entries that `path` was found to hold, checked. Raises CheckpointError."""
    if not isinstance(content, dict) or not is_distillation(content) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this version, expected format {FORMAT} of `cyclegan-edge distill`."
        )
    try:
        from_mapping(DistillContent, content)
        if not 0 <= content["step"] <= _MAX_COUNT or not 0 <= content["seconds"] < math.inf:
            raise ValueError(f"step {content['step']}, seconds {content['seconds']}")
        if len(content["channels"]) != 2 or set(content["channels"]) - {1, 3}:
            raise ValueError(f"channels are {content['channels']}, expected two of 1 and 3")
    except (ConfigError, ValueError) as error:
        raise _misfit(path, error) from error
    return cast("DistillContent", content)


def distill_config_of(content: DistillContent, path: Path) -> DistillConfig:
    """The settings of a distillation. Raises CheckpointError for those that are unknown."""
    try:
        return from_mapping(DistillConfig, content["config"])
    except ConfigError as error:
        raise CheckpointError(f"{path} holds settings that this version cannot use ({first_line(error)}).") from error


def load_state(path: Path, config: DistillConfig, device: torch.device, heads: nn.ModuleList) -> DistillState:
    """The state to go on with, under `config`. Raises CheckpointError."""
    content = check_distillation(read_torch_file(path), path)
    _check_shapes(content, config, path)
    inputs, outputs = content["channels"]
    state = new_state(config, device, heads, (inputs, outputs))
    try:
        state.student.load_state_dict(content["student"])
        state.average.load_state_dict(content["average"])
        state.heads.load_state_dict(content["heads"])
        load_optimiser(state.optimiser, content["optimiser"])
        load_optimiser(state.heads_optimiser, content["heads_optimiser"])
    except Exception as error:  # each part has its own way to refuse what does not fit it
        raise _misfit(path, error) from error
    state.step, state.seconds = content["step"], content["seconds"]
    return state


def load_student(content: DistillContent, path: Path) -> tuple[DistillConfig, nn.Module]:
    """The settings and the student's average on the CPU in eval mode. Raises CheckpointError."""
    config = distill_config_of(content, path)
    _check_shapes(content, config, path)
    inputs, outputs = content["channels"]
    student = new_generator(config.generator, inputs, outputs)
    student.load_state_dict(content["average"])
    return config, student.eval()


def _check_shapes(content: DistillContent, config: DistillConfig, path: Path) -> None:
    """Raise CheckpointError unless the weights have the names and shapes that `config` gives them."""
    inputs, outputs = content["channels"]
    with torch.device("meta"):  # shapes without memory
        student = new_generator(config.generator, inputs, outputs)
    expected = {key: value.shape for key, value in student.state_dict().items()}
    for name in ("student", "average"):
        found = {key: value.shape for key, value in content[name].items()}
        if found != expected:
            raise _misfit(path, ValueError(f"the weights of its {name} have other names or shapes"))


def _misfit(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} does not fit its own settings ({first_line(error)}); use an older checkpoint.")
