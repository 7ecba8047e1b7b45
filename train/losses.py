"""CycleGAN objective (Zhu et al. 2017, arXiv:1703.10593, section 3), and the other GAN losses of the field.

    real, fake, cycled, same   (N, C, S, S)  -1..1
    score                      (N, 1, h, w)  raw discriminator output, one per patch, no sigmoid; (N,) when averaged

                generator wants of its fake       discriminator wants of real, fake
    lsgan       (score - 1)^2                     (score - 1)^2, score^2              Mao et al. 2017
    vanilla     -log sigmoid(score)               -log sigmoid, -log(1 - sigmoid)     Goodfellow et al. 2014
    hinge       -score                            max(0, 1 - score), max(0, 1 + score)  Lim and Ye 2017

Each loss is a 0-d float32 tensor, the mean over all elements, whatever floating type came in. Raises nothing: the
caller has the shapes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan_edge.errors import ConfigError

Gan = Literal["lsgan", "vanilla", "hinge"]
Patches = Literal["map", "mean"]
Augmentation = Literal[
    "none", "colour", "translation", "cutout", "colour+translation", "translation+cutout", "colour+translation+cutout"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveConfig:
    """What the networks are trained to do."""

    gan: Gan = "lsgan"
    patches: Patches = "map"  # each patch's score enters the loss, or their mean per picture
    cycle_weight_a: float = 10.0  # lambda of eq. (3), for A -> B -> A
    cycle_weight_b: float = 10.0  # the same for B -> A -> B
    identity_weight: float = 5.0  # section 5.2: 0.5 lambda; 0 turns it off
    pool: int = 50  # generated pictures each replay buffer keeps; 0 turns it off
    augment: Augmentation = "none"  # DiffAugment of all that the discriminators see, against overfitting small sets

    def __post_init__(self) -> None:
        for name in ("cycle_weight_a", "cycle_weight_b", "identity_weight", "pool"):
            if not getattr(self, name) >= 0:  # also refuses NaN
                raise ConfigError(f"objective.{name} is {getattr(self, name)}, expected 0 or more.")


def generator_gan_loss(score_of_fake: Tensor, gan: Gan = "lsgan") -> Tensor:
    """What the generator minimises of the discriminator's score of its picture."""
    score_of_fake = score_of_fake.float()
    match gan:
        case "lsgan":
            return functional.mse_loss(score_of_fake, torch.ones_like(score_of_fake))
        case "vanilla":
            return functional.softplus(-score_of_fake).mean()
        case "hinge":
            return -score_of_fake.mean()


def discriminator_gan_loss(score_of_real: Tensor, score_of_fake: Tensor, gan: Gan = "lsgan") -> Tensor:
    """What the discriminator minimises, halved as in the paper's section 4."""
    score_of_real, score_of_fake = score_of_real.float(), score_of_fake.float()
    match gan:
        case "lsgan":
            return 0.5 * ((score_of_real - 1.0).square().mean() + score_of_fake.square().mean())
        case "vanilla":
            return 0.5 * (functional.softplus(-score_of_real).mean() + functional.softplus(score_of_fake).mean())
        case "hinge":
            return 0.5 * (functional.relu(1.0 - score_of_real).mean() + functional.relu(1.0 + score_of_fake).mean())


def pooled(score: Tensor, patches: Patches) -> Tensor:
    """The scores that enter the loss, float32: all of them, or their mean per picture."""
    return score.float() if patches == "map" else score.float().mean(dim=(1, 2, 3))


def cycle_loss(cycled: Tensor, real: Tensor) -> Tensor:
    """L1 between a picture and its reconstruction G_ba(G_ab(real)), eq. (2)."""
    return functional.l1_loss(cycled.float(), real.float())


def identity_loss(same: Tensor, real: Tensor) -> Tensor:
    """L1 between a picture and its translation into the domain that it is in already, section 5.2."""
    return functional.l1_loss(same.float(), real.float())


def augmented(pictures: Tensor, augment: Augmentation) -> Tensor:
    """(N, C, S, S) -> the same shape, changed at random and differentiably (DiffAugment, Zhao et al. 2020, section 3).

    colour       brightness +-0.5, saturation 0..2, contrast 0.5..1.5
    translation  up to an eighth of the side, black beyond
    cutout       a black square of half the side
    """
    for name in augment.split("+"):
        match name:
            case "colour":
                pictures = _jitter_colour(pictures.float())
            case "translation":
                pictures = _translate(pictures.float())
            case "cutout":
                pictures = _cut_out(pictures.float())
    return pictures


def _jitter_colour(x: Tensor) -> Tensor:
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device)
    x = x + brightness - 0.5
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * saturation * 2.0
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = middle + (x - middle) * (contrast + 0.5)
    return changed


def _translate(x: Tensor) -> Tensor:
    count, _, height, width = x.shape
    reach = torch.tensor((height // 8, width // 8), device=x.device)
    shift = (torch.rand(count, 2, device=x.device) * (2 * reach + 1)).floor().long() - reach
    rows = torch.arange(height, device=x.device)[None] + shift[:, :1]  # (N, H): where each row comes from
    columns = torch.arange(width, device=x.device)[None] + shift[:, 1:]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None]
    pictures = torch.arange(count, device=x.device)[:, None, None]
    moved = x.movedim(1, -1)[pictures, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]]
    shown: Tensor = moved.movedim(-1, 1) * inside
    return shown


def _cut_out(x: Tensor) -> Tensor:
    count, _, height, width = x.shape
    centre = torch.rand(count, 2, device=x.device)
    rows = (torch.arange(height, device=x.device)[None] - centre[:, :1] * height).abs() < height / 4
    columns = (torch.arange(width, device=x.device)[None] - centre[:, 1:] * width).abs() < width / 4
    return x * ~(rows[:, None, :, None] & columns[:, None, None])
