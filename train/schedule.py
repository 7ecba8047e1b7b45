"""The learning rate over a run, and when the run ends.

A run ends after `epochs`, `steps` or `minutes`, whichever is given; without any, after constant_epochs + decay_epochs
as in the paper. The policy adapts: what it does over the paper's 200 epochs it does over that length.

    linear     constant, then linear to 0 (the paper)         the reference's rule, tread by tread
    cosine     0.5 (1 + cos(pi f)), f from 0 to 1             Loshchilov and Hutter 2017, no restarts
    plateau    times 0.2 when the cycle loss of an epoch was no better by 1 % for 5 epochs, as the reference means it
    constant   always learning_rate
"""

import math
from dataclasses import dataclass
from typing import Literal, TypedDict

from cyclegan_edge.errors import ConfigError

_DROP, _PATIENCE, _PROGRESS = 0.2, 5, 0.01  # of "plateau": the factor, epochs, and share of the best, as the reference


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """How long a run lasts and what happens to the learning rate meanwhile."""

    policy: Literal["linear", "cosine", "plateau", "constant"] = "linear"
    constant_epochs: int = 100  # at learning_rate; an epoch is as many pairs as the larger domain has pictures
    decay_epochs: int = 100  # linear from learning_rate to 0
    epochs: int | None = None  # stop after this many, shared between constant and decay in the same proportion
    steps: int | None = None  # or after this many optimiser steps
    minutes: float | None = None  # or after this much time in training, over all continuations

    def __post_init__(self) -> None:
        for name in ("constant_epochs", "decay_epochs"):
            if getattr(self, name) < 0:
                raise ConfigError(f"schedule.{name} is {getattr(self, name)}, expected 0 or more.")
        for name in ("epochs", "steps", "minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"schedule.{name} is {value}, expected more than 0, or none to leave it out.")
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(
                f"schedule has {' and '.join(given)}, but a run ends by one rule; set the others to none."
            )
        if self.constant_epochs + self.decay_epochs < 1:
            raise ConfigError(
                "schedule.constant_epochs and schedule.decay_epochs are both 0: there is nothing to train; raise one."
            )

    @property
    def decay_share(self) -> float:
        """The part of the run in which "linear" decays, 0..1."""
        return self.decay_epochs / (self.constant_epochs + self.decay_epochs)

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """How many steps the whole run has; None when the clock decides."""
        if self.minutes is not None:
            return None
        if self.steps is not None:
            return self.steps
        return (self.epochs or self.constant_epochs + self.decay_epochs) * steps_per_epoch


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is, before a step is taken."""

    step: int  # steps taken
    steps_per_epoch: int
    seconds: float = 0.0  # spent in training so far


def share_done(schedule: ScheduleConfig, at: Position) -> float:
    """How much of the run is done, 0..1."""
    if schedule.minutes is not None:
        return min(1.0, at.seconds / (60.0 * schedule.minutes))
    total = schedule.total_steps(at.steps_per_epoch)
    assert total is not None  # only minutes leave it open
    return min(1.0, at.step / total)


def is_over(schedule: ScheduleConfig, at: Position) -> bool:
    """Whether the run has reached its end."""
    return share_done(schedule, at) >= 1.0


def learning_rate_factor(schedule: ScheduleConfig, at: Position, plateau: float = 1.0) -> float:
    """The share of the learning rate that the next step uses, 0..1; `plateau` is the factor that `Plateau` holds.

    "linear" by epochs is the reference's rule: 1 - max(0, e + 1 - constant) / (decay + 1) in epoch e (from 0). By steps
    it is the same line with finer treads; by minutes it is smooth.
    """
    match schedule.policy:
        case "linear":
            return _linear(schedule, at)
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * share_done(schedule, at)))
        case "plateau":
            return plateau
        case "constant":
            return 1.0


def _linear(schedule: ScheduleConfig, at: Position) -> float:
    if schedule.minutes is not None:
        decay = schedule.decay_share
        return 1.0 if not decay else min(1.0, max(0.0, (1.0 - share_done(schedule, at)) / decay))
    if schedule.steps is not None:
        position, length = at.step, schedule.steps
    else:
        position = at.step // at.steps_per_epoch
        length = schedule.epochs or schedule.constant_epochs + schedule.decay_epochs
    decay = int(length * schedule.decay_share)
    return 1.0 - max(0, position + 1 - (length - decay)) / (decay + 1)


class PlateauState(TypedDict):
    """What a checkpoint keeps of a plateau."""

    factor: float
    best: float
    waited: int


class Plateau:
    """Lowers its `factor` when the mean loss of an epoch has stopped falling."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._best = math.inf
        self._waited = 0  # epochs since the best one

    def step(self, loss: float) -> None:
        """Take one epoch's mean loss into account."""
        if loss < self._best * (1.0 - _PROGRESS):
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited > _PATIENCE:
            self.factor, self._waited = self.factor * _DROP, 0

    def state_dict(self) -> PlateauState:
        """Everything that decides the next factors."""
        return {"factor": self.factor, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: PlateauState) -> None:
        """Go on where `state_dict` was taken."""
        self.factor, self._best, self._waited = state["factor"], state["best"], state["waited"]
