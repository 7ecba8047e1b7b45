"""The learning rate against the reference's formula and the papers', and the rules that end a run."""

import math

import pytest

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.train.schedule import (
    Plateau,
    Position,
    ScheduleConfig,
    is_over,
    learning_rate_factor,
    share_done,
)

PAIRS = 1334  # of an epoch of horse2zebra


@pytest.mark.parametrize("epoch", [0, 50, 99, 100, 150, 199])
def test_linear_by_epochs_is_the_reference_s_formula(epoch: int) -> None:
    epoch_count, n_epochs, n_epochs_decay = 1, 100, 100

    factor = learning_rate_factor(ScheduleConfig(), Position(epoch * PAIRS + 77, PAIRS))

    assert factor == 1.0 - max(0, epoch + epoch_count - n_epochs) / float(n_epochs_decay + 1)


def test_linear_by_steps_is_constant_for_half_and_ends_just_above_zero() -> None:
    schedule = ScheduleConfig(steps=1000)

    factors = [learning_rate_factor(schedule, Position(step, 7)) for step in range(1000)]

    assert factors[:500] == [1.0] * 500
    assert factors[500] == 1.0 - 1 / 501
    assert factors[-1] == pytest.approx(1 / 501)


def test_linear_by_minutes_follows_the_clock() -> None:
    schedule = ScheduleConfig(minutes=10)

    factors = [learning_rate_factor(schedule, Position(0, PAIRS, seconds)) for seconds in (0, 300, 450, 600)]

    assert factors == [1.0, 1.0, 0.5, 0.0]


def test_epochs_share_constant_and_decay_as_the_paper_does() -> None:
    schedule = ScheduleConfig(epochs=10)

    factors = [learning_rate_factor(schedule, Position(epoch * PAIRS, PAIRS)) for epoch in range(10)]

    assert factors[:5] == [1.0] * 5
    assert factors[5:] == pytest.approx([1 - place / 6 for place in range(1, 6)])


@pytest.mark.parametrize("step", [0, 1, 250, 500, 999])
def test_cosine_falls_from_1_to_0_over_the_run(step: int) -> None:
    schedule = ScheduleConfig(policy="cosine", steps=1000)

    assert learning_rate_factor(schedule, Position(step, 10)) == pytest.approx(math.cos(math.pi * step / 2000) ** 2)


def test_plateau_waits_then_lowers_the_rate_and_goes_on_where_it_was_saved() -> None:
    schedule = ScheduleConfig(policy="plateau")
    plateau, restored = Plateau(), Plateau()

    factors = []
    for loss in [1.0, 0.5, 0.499, 0.5, 0.5, 0.5, 0.5, 0.5]:  # 0.499 is less than 1 % better
        plateau.step(loss)
        restored.load_state_dict(plateau.state_dict())
        factors.append(restored.factor)

    assert factors == [1.0] * 7 + [0.2]
    assert learning_rate_factor(schedule, Position(0, 1), restored.factor) == 0.2


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (ScheduleConfig(), 266_800),
        (ScheduleConfig(epochs=3), 4002),
        (ScheduleConfig(steps=17), 17),
        (ScheduleConfig(minutes=1), None),
    ],
)
def test_a_run_has_as_many_steps_as_its_rule_says(schedule: ScheduleConfig, steps: int | None) -> None:
    assert schedule.total_steps(PAIRS) == steps


def test_the_clock_ends_a_run_whatever_its_steps() -> None:
    schedule = ScheduleConfig(minutes=2)

    assert not is_over(schedule, Position(10**9, 1, 119.9))
    assert is_over(schedule, Position(1, 1, 120.0))
    assert share_done(schedule, Position(1, 1, 30.0)) == 0.25


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"steps": 0}, "schedule.steps is 0, .* more than 0"),
        ({"minutes": float("nan")}, "schedule.minutes is nan, .* more than 0"),
        ({"steps": 5, "minutes": 1.0}, "steps and minutes.* none"),
        ({"constant_epochs": 0, "decay_epochs": 0}, "constant_epochs and schedule.decay_epochs are both 0"),
    ],
)
def test_a_wrong_rule_is_refused(settings: dict[str, object], facts: str) -> None:
    with pytest.raises(ConfigError, match=facts):
        ScheduleConfig(**settings)  # type: ignore[arg-type]
