"""The objective against numbers worked out by hand."""

import pytest
import torch

from cyclegan_edge.train.losses import cycle_loss, discriminator_gan_loss, generator_gan_loss, identity_loss


def test_generator_gan_loss_is_the_mean_square_distance_to_one_over_patches() -> None:
    score = torch.tensor([[[[1.0, 0.0], [0.5, 3.0]]]])

    loss = generator_gan_loss(score)

    assert loss.item() == pytest.approx((0.0 + 1.0 + 0.25 + 4.0) / 4)


def test_discriminator_gan_loss_is_half_the_sum_of_both_distances() -> None:
    real = torch.tensor([[[[1.0, 0.0]]]])
    fake = torch.tensor([[[[2.0, 0.0]]]])

    loss = discriminator_gan_loss(real, fake)

    assert loss.item() == pytest.approx(0.5 * ((0.0 + 1.0) / 2 + (4.0 + 0.0) / 2))


def test_every_patch_counts_on_its_own_and_not_their_average() -> None:
    score = torch.tensor([[[[2.0, 0.0]]]])  # averages to a perfect 1

    assert generator_gan_loss(score).item() == pytest.approx(1.0)


@pytest.mark.parametrize("loss", [cycle_loss, identity_loss])
def test_cycle_and_identity_are_mean_absolute_differences(loss: object) -> None:
    made = torch.tensor([[[[0.5, -1.0]]]])
    real = torch.tensor([[[[0.0, 1.0]]]])

    assert callable(loss)
    assert loss(made, real).item() == pytest.approx((0.5 + 2.0) / 2)
