"""The replay buffer: fill first, then an old picture for half of the queries."""

import torch

from cyclegan_edge.train.replay import ReplayBuffer


def picture(value: float) -> torch.Tensor:
    return torch.full((1, 3, 2, 2), float(value))


def test_a_buffer_that_is_not_full_gives_every_picture_back() -> None:
    buffer = ReplayBuffer(50, seed=0)

    answers = [buffer.query(picture(number)).mean().item() for number in range(50)]

    assert answers == list(range(50))


def test_a_full_buffer_answers_half_of_the_queries_with_an_old_picture() -> None:
    buffer = ReplayBuffer(50, seed=0)
    for number in range(50):
        buffer.query(picture(number))

    answers = [buffer.query(picture(number)).mean().item() for number in range(50, 4050)]

    old = sum(answer != number for number, answer in enumerate(answers, 50))
    assert 1880 < old < 2120  # binomial(4000, 1/2): mean 2000, deviation 32


def test_no_picture_is_given_out_of_the_buffer_twice() -> None:
    buffer = ReplayBuffer(10, seed=3)

    answers = [buffer.query(picture(number)).mean().item() for number in range(500)]

    replayed = [answer for number, answer in enumerate(answers) if answer != number]
    assert len(replayed) > 100
    assert len(set(replayed)) == len(replayed)


def test_a_buffer_of_size_0_gives_every_picture_back() -> None:
    buffer = ReplayBuffer(0, seed=0)

    answers = [buffer.query(picture(number)).mean().item() for number in range(100)]

    assert answers == list(range(100))


def test_a_kept_picture_carries_no_gradient_and_is_not_changed_by_later_work() -> None:
    buffer = ReplayBuffer(1, seed=0)
    made = picture(1.0).requires_grad_()

    answer = buffer.query(made)
    with torch.no_grad():
        made.zero_()

    assert not answer.requires_grad
    assert buffer.state_dict()["pictures"][0].mean().item() == 1.0


def test_non_finite_values_are_kept_as_a_picture() -> None:
    buffer = ReplayBuffer(1, seed=0)

    buffer.query(torch.tensor([[[[float("nan"), float("inf"), -float("inf"), 0.5]]]]))

    assert buffer.state_dict()["pictures"][0].tolist() == [[[0.0, 1.0, -1.0, 0.5]]]


def test_pictures_of_different_sizes_may_follow_one_another() -> None:
    buffer = ReplayBuffer(2, seed=0)

    shapes = {buffer.query(torch.zeros(1, 3, side, side)).shape[-1] for side in (8, 12, 16) * 20}

    assert shapes == {8, 12, 16}


def test_a_restored_buffer_gives_the_same_answers() -> None:
    buffer = ReplayBuffer(5, seed=7)
    for number in range(20):
        buffer.query(picture(number))
    restored = ReplayBuffer(5, seed=99)
    restored.load_state_dict(buffer.state_dict())

    answers = [
        (buffer.query(picture(n)).mean().item(), restored.query(picture(n)).mean().item()) for n in range(20, 120)
    ]

    assert all(ours == theirs for ours, theirs in answers)
