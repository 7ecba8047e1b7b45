"""The objective against numbers worked out by hand."""

import math

import pytest
import torch

from cyclegan_edge.train.losses import (
    Augmentation,
    Gan,
    augmented,
    cycle_loss,
    discriminator_gan_loss,
    generator_gan_loss,
    identity_loss,
)


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


@pytest.mark.parametrize(
    ("gan", "generator", "discriminator"),
    [  # the discriminator gives the real patches 2 and -1, the generated ones 0 and 3
        ("lsgan", (1.0 + 4.0) / 2, 0.5 * ((1.0 + 4.0) / 2 + (0.0 + 9.0) / 2)),
        (
            "vanilla",
            (math.log(2.0) + math.log1p(math.exp(-3.0))) / 2,
            0.5
            * ((math.log1p(math.exp(-2.0)) + math.log1p(math.exp(1.0))) + math.log(2.0) + math.log1p(math.exp(3.0)))
            / 2,
        ),
        ("hinge", -1.5, 0.5 * ((0.0 + 2.0) / 2 + (1.0 + 4.0) / 2)),
    ],
)
def test_each_gan_loss_is_the_number_of_its_paper(gan: Gan, generator: float, discriminator: float) -> None:
    real, fake = torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[[0.0, 3.0]]]])

    assert generator_gan_loss(fake, gan).item() == pytest.approx(generator)
    assert discriminator_gan_loss(real, fake, gan).item() == pytest.approx(discriminator)


@pytest.mark.parametrize("augment", ["colour", "translation", "cutout", "colour+translation+cutout"])
def test_augmentation_changes_each_picture_in_its_own_way_and_passes_the_gradient(augment: Augmentation) -> None:
    torch.manual_seed(0)
    pictures = torch.rand(1, 3, 16, 16).expand(6, -1, -1, -1).clone().requires_grad_()

    changed = augmented(pictures, augment)
    changed.sum().backward()  # type: ignore[no-untyped-call]

    assert changed.shape == pictures.shape
    assert len({round(picture.sum().item(), 4) for picture in changed}) >= 4  # two shifts may be equal
    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0


def test_a_translation_moves_at_most_an_eighth_and_leaves_black() -> None:
    torch.manual_seed(1)
    pictures = torch.ones(64, 1, 16, 16)

    moved = augmented(pictures, "translation")

    assert set(moved.flatten().tolist()) == {0.0, 1.0}
    assert moved.flatten(1).sum(1).min().item() == 14 * 14
    assert moved.flatten(1).sum(1).max().item() == 16 * 16


def test_a_cutout_is_a_square_of_half_the_side() -> None:
    torch.manual_seed(2)

    cut = augmented(torch.ones(64, 1, 16, 16), "cutout")

    holes = (1 - cut).flatten(1).sum(1)
    assert 48 <= holes.max().item() <= 64  # 8x8 where it lies inside
    assert holes.min().item() > 0


def test_colour_changes_keep_the_place_of_things() -> None:
    torch.manual_seed(3)
    picture = torch.zeros(1, 3, 8, 8)
    picture[..., 4:] = 1.0

    changed = augmented(picture, "colour")

    for side in (changed[..., :4], changed[..., 4:]):
        torch.testing.assert_close(side.amax((2, 3)), side.amin((2, 3)))


def test_no_augmentation_is_no_change() -> None:
    pictures = torch.rand(2, 3, 8, 8)

    assert augmented(pictures, "none") is pictures
