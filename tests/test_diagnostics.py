"""Warnings about failing runs, from made-up sequences of each failure, and silence about healthy runs."""

import json
import math
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from cyclegan_edge.images import write_image
from cyclegan_edge.train.config import OptimiserConfig, TrainConfig
from cyclegan_edge.train.data.crops import Crops
from cyclegan_edge.train.data.folders import FolderPairs, find_pictures
from cyclegan_edge.train.data.loader import batches
from cyclegan_edge.train.diagnostics import REPEAT, Diagnostics
from cyclegan_edge.train.execution import PLAIN, resolve
from cyclegan_edge.train.losses import Gan
from cyclegan_edge.train.networks import DiscriminatorConfig, GeneratorConfig
from cyclegan_edge.train.state import new_state
from cyclegan_edge.train.step import Step

EVERY = 20  # steps between two logged ones
UNDECIDED = {"lsgan": (0.25, 0.25), "vanilla": (math.log(2), math.log(2)), "hinge": (0.0, 1.0)}
WON = {"lsgan": (0.98, 0.003), "vanilla": (4.5, 0.01), "hinge": (1.1, 0.0)}


def named(generator: float, discriminator: float) -> dict[str, float]:
    """The losses of a step whose direction ab is as given and whose direction ba is healthy."""
    return {
        "gan_ab": generator, "gan_ba": 0.4, "cycle_a": 0.1, "cycle_b": 0.1,
        "discriminator_a": 0.18, "discriminator_b": discriminator,
    }  # fmt: skip


def told(diagnostics: Diagnostics, losses: Iterable[Mapping[str, float]], start: int = 0) -> list[str]:
    steps = ((start + number * EVERY, named) for number, named in enumerate(losses, 1))
    return [sentence for step, named in steps for sentence in diagnostics.check_losses(step, named)]


def around(value: float, rng: np.random.Generator, spread: float, count: int) -> list[float]:
    return [value * (1 + spread * float(rng.uniform(-1, 1))) for _ in range(count)]


def pictures(rng: np.random.Generator, count: int = 1) -> torch.Tensor:
    """(count, 3, 32, 32) in -1..1: soft blobs of colour, each picture another."""
    coarse = torch.tensor(rng.uniform(-1, 1, (count, 3, 4, 4)), dtype=torch.float32)
    return torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")


def shown(diagnostics: Diagnostics, fakes: Mapping[int, tuple[torch.Tensor, torch.Tensor]]) -> list[str]:
    return [
        sentence
        for step, (real, fake) in fakes.items()
        for sentence in diagnostics.check_pictures(step, "ab", real, fake)
    ]


@pytest.mark.parametrize("gan", ["lsgan", "vanilla", "hinge"])
def test_a_discriminator_that_wins_is_named_once_with_what_to_do(gan: Gan, rng: np.random.Generator) -> None:
    generator, discriminator = WON[gan]
    losses = [named(g, discriminator) for g in around(generator, rng, 0.05, 200)]

    (warning,) = told(Diagnostics(gan), losses)

    assert warning.startswith("Step ")
    assert "discriminator_b has won: for 1000 steps" in warning
    assert f"near 0 ({discriminator:.3f})" in warning
    assert "add pictures or augmentation" in warning


def test_a_discriminator_that_wins_for_a_while_only_is_not_named() -> None:
    phase = [named(0.98, 0.003)] * 45 + [named(0.4, 0.2)] * 10

    assert told(Diagnostics(), phase * 5) == []


def test_a_confident_discriminator_whose_generator_still_earns_something_is_not_named() -> None:
    assert told(Diagnostics(), [named(0.6, 0.005)] * 500) == []


def test_a_warning_returns_after_a_while_when_nothing_changes() -> None:
    warnings = told(Diagnostics(), [named(0.98, 0.003)] * (2 * REPEAT // EVERY + 60))

    first, second, third = (int(warning.split()[1].rstrip(":")) for warning in warnings)
    assert second - first == third - second == REPEAT


@pytest.mark.parametrize("gan", ["lsgan", "vanilla", "hinge"])
def test_a_discriminator_that_cannot_judge_is_named(gan: Gan, rng: np.random.Generator) -> None:
    generator, discriminator = UNDECIDED[gan]
    losses = [named(generator, d) for d in around(discriminator, rng, 0.01, 300)]

    (warning,) = told(Diagnostics(gan), losses)

    assert "discriminator_b does not judge: for 5000 steps its loss has been" in warning


def test_a_discriminator_that_plays_around_a_draw_is_healthy(rng: np.random.Generator) -> None:
    losses = [named(0.3, d) for d in around(0.25, rng, 0.3, 1000)]

    assert told(Diagnostics(), losses) == []


def test_a_value_that_is_not_finite_does_not_spoil_what_comes_after() -> None:
    diagnostics = Diagnostics()
    diagnostics.check_losses(1, named(math.nan, math.nan))

    (warning,) = told(diagnostics, [named(0.98, 0.003)] * 100)

    assert "has won" in warning


def test_a_generator_that_copies_is_named_after_several_samples(rng: np.random.Generator) -> None:
    reals = {step: pictures(rng) for step in range(200, 4200, 200)}
    fakes = {step: (real, real + 0.01) for step, real in reals.items()}

    (warning,) = shown(Diagnostics(), fakes)

    assert warning.startswith("Step 2800: generator_ab copies its input: 5 samples in a row")  # 2000 is the first
    assert "(now 0.010, of 2)" in warning
    assert "lower identity weight" in warning


def test_a_generator_that_copies_now_and_then_is_healthy(rng: np.random.Generator) -> None:
    reals = {step: pictures(rng) for step in range(2000, 8000, 200)}
    fakes = {step: (real, real + (0.1 if step % 800 == 0 else 0.01)) for step, real in reals.items()}

    assert shown(Diagnostics(), fakes) == []


@pytest.mark.parametrize(
    ("channels", "named"),
    [((-0.9, -0.9, -0.9), True), ((-0.5, -0.8, 0.1), True), ((0.5, 0.9, -0.9), False), ((0.2, 0.2, 0.2), False)],
)
def test_inverted_colours_are_named_and_changed_ones_are_not(
    channels: tuple[float, float, float], named: bool, rng: np.random.Generator
) -> None:
    reals = {step: pictures(rng) for step in range(2000, 3000, 200)}
    factor = torch.tensor(channels)[:, None, None]

    warnings = shown(Diagnostics(), {step: (real, real * factor) for step, real in reals.items()})

    assert [("inverts colours" in warning, "Step 2800" in warning) for warning in warnings] == [(True, True)] * named


def test_outputs_that_do_not_depend_on_the_input_are_named(rng: np.random.Generator) -> None:
    always = pictures(rng)
    fakes = {step: (pictures(rng), always + 0.02 * pictures(rng)) for step in range(200, 3000, 200)}

    (warning,) = shown(Diagnostics(), fakes)

    assert warning.startswith("Step 2000: generator_ab gives nearly the same picture for different inputs: the last 8")
    assert "mode collapse" in warning


def test_the_same_sample_every_time_says_nothing_about_mode_collapse(rng: np.random.Generator) -> None:
    real, fake = pictures(rng), pictures(rng)

    assert shown(Diagnostics(), dict.fromkeys(range(200, 9000, 200), (real, fake))) == []


def test_domains_with_different_channels_are_watched_too(rng: np.random.Generator) -> None:
    reals = {step: pictures(rng) for step in range(2000, 3000, 200)}

    warnings = shown(Diagnostics(), {step: (real, -real.mean(1, keepdim=True)) for step, real in reals.items()})

    assert ["inverts colours" in warning for warning in warnings] == [True]


@pytest.mark.parametrize("stop", [1, 37, 120, 299])
def test_a_continued_run_warns_as_an_uninterrupted_one(stop: int, rng: np.random.Generator) -> None:
    losses = [named(0.98, 0.003)] * 150 + [named(0.25, d) for d in around(0.25, rng, 0.01, 350)]
    always = pictures(rng)
    samples = {number: (pictures(rng), always) for number in range(0, len(losses), 10)}

    def run(diagnostics: Diagnostics, first: int, last: int) -> list[str]:
        warnings = []
        for number in range(first, last):
            warnings += diagnostics.check_losses((number + 1) * EVERY, losses[number])
            if number in samples:
                warnings += diagnostics.check_pictures((number + 1) * EVERY, "ba", *samples[number])
        return warnings

    whole = run(Diagnostics(), 0, len(losses))
    stopped = Diagnostics()
    before = run(stopped, 0, stop)
    continued = Diagnostics(state=json.loads(json.dumps(stopped.state_dict())))  # plain values
    after = run(continued, stop, len(losses))

    assert before + after == whole
    assert [next(word for word in ("won", "judge", "same picture") if word in text) for text in whole] == [
        "won", "same picture", "same picture", "judge",
    ]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_healthy_run_is_not_warned_of(device: Literal["cpu", "cuda"], tmp_path: Path) -> None:
    """Every step of a real, tiny run counts as sixty, so that all that has to last would have lasted."""
    rng = np.random.default_rng(0)
    for domain, tint in (("trainA", (0.4, 1.0, 0.4)), ("trainB", (1.0, 0.4, 0.4))):
        for number in range(12):
            coarse = rng.uniform(0, 255, (4, 4)).repeat(10, 0).repeat(10, 1)[..., None] * tint
            (tmp_path / domain).mkdir(exist_ok=True)
            write_image(tmp_path / domain / f"{number}.png", coarse.astype(np.uint8))
    config = TrainConfig(
        data=str(tmp_path),
        size=32,
        generator=GeneratorConfig(width=4, blocks=1),
        discriminator=DiscriminatorConfig(width=4),
        optimiser=OptimiserConfig(learning_rate=1e-3),
        speed=PLAIN,
    )
    state = new_state(config, torch.device(device))
    step_once = Step(state, config.objective, resolve(PLAIN, torch.device(device), size=32, batch=1))
    crops = Crops(pictures=config.pictures, load_size=config.load_size, size=config.size, multiple=4, seed=0)
    diagnostics, warnings = Diagnostics(), list[str]()

    pairs = batches(FolderPairs(find_pictures(tmp_path), 0), crops, batch=1, start=0, workers=1)
    for real_a, real_b in islice(pairs, 100):
        losses, made = step_once(real_a.to(device), real_b.to(device))
        step = state.step * 60
        warnings += diagnostics.check_losses(step, {name: value.item() for name, value in losses._asdict().items()})
        if state.step % 4 == 0:
            warnings += diagnostics.check_pictures(step, "ab", made.real_a, made.fake_b)
            warnings += diagnostics.check_pictures(step, "ba", made.real_b, made.fake_a)
    pairs.close()

    assert warnings == []
