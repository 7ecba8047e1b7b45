"""Warnings about the known ways in which a CycleGAN fails, while there is still time to stop it.

    losses      names and values of a step, as `step.Losses` names them
    pictures    real and fake (translated) of one direction, (N, C, S, S) in -1..1, on any device

Nothing here changes the training. Each warning gives the step, what was observed, what it usually means, and what to
do. The thresholds are far from what healthy runs show.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan_edge.contract import Direction
from cyclegan_edge.train.losses import Gan

REPEAT = 5000  # steps until the same warning may come again

_MEMORY = 0.95  # of the running means of losses: at a batch of 1 a single value says nothing, 20 do
_LOGGED = 50  # logged steps, and ...
_LASTING = 1000  # ... steps that a victory must last: less may be a phase
_LONG = 5000  # steps that a draw must last, which healthy runs come near for a while
_WON = {  # objective -> discriminator's loss at most, generator's at least
    "lsgan": (0.02, 0.85),  # scores off by 0.14 from 1 and 0; healthy runs stayed above 0.14 and below 0.55
    "vanilla": (0.05, 2.5),  # probabilities of about 0.95 for real and 0.08 for generated
    "hinge": (0.05, 0.95),  # nearly all scores beyond the margins 1 and -1
}
_DRAW = {"lsgan": 0.25, "vanilla": math.log(2.0), "hinge": 1.0}  # the discriminator's loss when its score is constant
_DRAW_WIDTH = 0.02  # times the draw: mean distance from it; one that judges moves by ten times that between pictures

_START = 2000  # steps that copying and inversion are left alone: generators begin near both
_SAMPLES = 5  # successive samples that must show the same; single pictures may
_COPY = (
    0.03  # mean absolute difference of values in -1..1: 4 levels of 255. A young or tiny generator cannot copy so well
)
_INVERTED = -0.5  # correlation over the pixels; translations keep the light: healthy runs stayed above 0.2
_SEEN = 8  # samples that are compared with each other
_CONSTANT = 0.1  # variation of the translations, as a share of the inputs'; healthy runs stayed above 0.6
_INPUTS_VARY = 0.05  # their variation at least, or there is nothing to compare: the same picture every time
_SIDE = 8  # px that pictures are reduced to for that: which colour is where, no texture


class DiagnosticsState(TypedDict):
    """What a checkpoint keeps of the diagnostics: plain values."""

    means: dict[str, float]  # running means
    since: dict[str, list[int]]  # suspicion -> the step it began at, and how often it was confirmed since
    warned: dict[str, int]  # warning -> step
    seen: dict[str, list[list[float]]]  # direction and kind -> reduced pictures, oldest first


class Diagnostics:
    """Observes one run, and gives the same warnings as if it had never been interrupted.

    `state` is what `state_dict` gave before the interruption.
    """

    def __init__(self, gan: Gan = "lsgan", state: DiagnosticsState | None = None) -> None:
        self._gan = gan
        kept: DiagnosticsState = state or {"means": {}, "since": {}, "warned": {}, "seen": {}}
        self._means, self._since, self._warned, self._seen = (
            dict(kept["means"]),
            dict(kept["since"]),
            dict(kept["warned"]),
            dict(kept["seen"]),
        )

    def check_losses(self, step: int, losses: Mapping[str, float]) -> list[str]:
        """Warnings after a logged step; non-finite losses are the loop's own matter."""
        return [*self._contest(step, losses, "ab", judge="b"), *self._contest(step, losses, "ba", judge="a")]

    def check_pictures(self, step: int, direction: Direction, real: Tensor, fake: Tensor) -> list[str]:
        """Warnings after a sample step; `fake` is what became of `real` in that direction."""
        real, fake = real.detach().float(), fake.detach().float()
        if not bool(torch.isfinite(fake).all()):  # check_losses says so
            return []
        return [
            *self._copied(step, direction, real, fake),
            *self._inverted(step, direction, real, fake),
            *self._constant(step, direction, real, fake),
        ]

    def state_dict(self) -> DiagnosticsState:
        """Everything that decides the next warnings."""
        return {
            "means": dict(self._means),
            "since": dict(self._since),
            "warned": dict(self._warned),
            "seen": dict(self._seen),
        }

    def _contest(self, step: int, losses: Mapping[str, float], direction: Direction, *, judge: str) -> Iterator[str]:
        """Whether the discriminator that judges a direction has won, or answers the same to everything."""
        generator, discriminator = losses.get(f"gan_{direction}"), losses.get(f"discriminator_{judge}")
        if generator is None or discriminator is None or not math.isfinite(generator + discriminator):
            return
        draw, (lowest, highest) = _DRAW[self._gan], _WON[self._gan]
        generator = self._mean(f"gan_{direction}", generator)
        distance = self._mean(f"distance_{judge}", abs(discriminator - draw))
        discriminator = self._mean(f"discriminator_{judge}", discriminator)
        lasted, times = self._held(f"won_{judge}", step, discriminator < lowest and generator > highest)
        if lasted >= _LASTING and times >= _LOGGED and self._may_warn(f"won_{judge}", step):
            yield (
                f"Step {step}: discriminator_{judge} has won: for {lasted} steps its loss has been near 0 "
                f"({discriminator:.3f}) and gan_{direction} at {generator:.2f}, so generator_{direction} learns hardly "
                f"anything from it; this usually means too few pictures for so strong a discriminator: add pictures or "
                f"augmentation, or start again with a narrower discriminator."
            )
        lasted, times = self._held(f"drawn_{judge}", step, distance < _DRAW_WIDTH * draw)
        if lasted >= _LONG and times >= _LOGGED and self._may_warn(f"drawn_{judge}", step):
            yield (
                f"Step {step}: discriminator_{judge} does not judge: for {lasted} steps its loss has been "
                f"{discriminator:.3f}, that of one that answers the same to every picture; this usually means that it "
                f"is too weak or cannot learn, rarely that the task is solved: look at the samples, and if they are "
                f"poor, start again with a wider discriminator or another seed."
            )

    def _copied(self, step: int, direction: Direction, real: Tensor, fake: Tensor) -> Iterator[str]:
        if step < _START or real.shape != fake.shape:  # domains may differ in channels
            return
        difference = float((fake - real).abs().mean())
        if times := self._in_samples(f"copied_{direction}", step, difference < _COPY):
            yield (
                f"Step {step}: generator_{direction} copies its input: {times} samples in a row differ from it by "
                f"less than {_COPY} (now {difference:.3f}, of 2); this usually means that identity and cycle loss "
                f"outweigh the discriminator: start again with a lower identity weight, or 0, which turns it off."
            )

    def _inverted(self, step: int, direction: Direction, real: Tensor, fake: Tensor) -> Iterator[str]:
        if step < _START:
            return
        brightness = _correlation(real.mean(1), fake.mean(1))
        channels = [_correlation(*pair) for pair in zip(real.unbind(1), fake.unbind(1), strict=False)]
        lowest = min(brightness, sum(channels) / len(channels))
        if times := self._in_samples(f"inverted_{direction}", step, lowest < _INVERTED):
            yield (
                f"Step {step}: generator_{direction} inverts colours: in {times} samples in a row light became dark "
                f"(correlation {lowest:.2f}); this usually means an unlucky start with too little identity loss, and "
                f"seldom goes away: start again with another seed or a higher identity weight."
            )

    def _constant(self, step: int, direction: Direction, real: Tensor, fake: Tensor) -> Iterator[str]:
        inputs = self._remember(f"real_{direction}", real)
        outputs = self._remember(f"fake_{direction}", fake)
        comparable = len(inputs) == _SEEN and _variation(inputs) > _INPUTS_VARY
        share = _variation(outputs) / _variation(inputs) if comparable else 1.0
        if step >= _START and share < _CONSTANT and self._may_warn(f"constant_{direction}", step):
            yield (
                f"Step {step}: generator_{direction} gives nearly the same picture for different inputs: the last "
                f"{_SEEN} vary {share:.2f} times as much as their inputs; this usually means mode collapse: look at "
                f"the samples, and start again with another seed, a higher cycle weight, or more pictures."
            )

    def _mean(self, name: str, value: float) -> float:
        """The running mean of a finite value."""
        self._means[name] = _MEMORY * self._means.get(name, value) + (1.0 - _MEMORY) * value
        return self._means[name]

    def _held(self, name: str, step: int, seen: bool) -> tuple[int, int]:
        """For how many steps, and how many times in a row, something has been seen; (0, 0) when it is not now."""
        if not seen:
            self._since.pop(name, None)
            return 0, 0
        since, times = self._since.get(name, [step, 0])
        self._since[name] = [since, times + 1]
        return step - since, times + 1

    def _in_samples(self, name: str, step: int, seen: bool) -> int:
        """In how many samples in a row something has been seen, where that is worth a warning now; else 0."""
        _, times = self._held(name, step, seen)
        return times if times >= _SAMPLES and self._may_warn(name, step) else 0

    def _remember(self, name: str, pictures: Tensor) -> list[list[float]]:
        """The first of these pictures, reduced, after the ones before it."""
        small = functional.adaptive_avg_pool2d(pictures[:1], _SIDE).flatten().tolist()
        kept = [*self._seen.get(name, []), small][-_SEEN:]
        self._seen[name] = kept
        return kept

    def _may_warn(self, name: str, step: int) -> bool:
        """True once per `REPEAT` steps, which begin now."""
        if name in self._warned and step - self._warned[name] < REPEAT:
            return False
        self._warned[name] = step
        return True


def _correlation(one: Tensor, other: Tensor) -> float:
    """Of the values of two (N, H, W), per picture, in the mean; 0 where a picture is of one colour."""
    one, other = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (one, other))
    return float(functional.cosine_similarity(one, other, dim=1, eps=1e-6).mean())


def _variation(pictures: list[list[float]]) -> float:
    """How much pictures differ: the standard deviation over them, in the mean over their values."""
    return float(torch.tensor(pictures).std(0).mean())
