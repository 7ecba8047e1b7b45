"""CycleGAN objective (Zhu et al. 2017, arXiv:1703.10593, section 3).

    real, fake, cycled, same   (N, 3, S, S)  float32, RGB, -1..1
    score                      (N, 1, h, w)  raw discriminator output, one per patch, no sigmoid

Each function returns a 0-d tensor, the mean over all elements. Raises nothing: the caller has the shapes.
"""

from torch import Tensor
from torch.nn import functional


def generator_gan_loss(score_of_fake: Tensor) -> Tensor:
    """LSGAN: the generator wants every patch of its picture to score 1."""
    return (score_of_fake - 1.0).square().mean()


def discriminator_gan_loss(score_of_real: Tensor, score_of_fake: Tensor) -> Tensor:
    """LSGAN, halved as in the paper's section 4: real patches score 1, generated ones 0."""
    return 0.5 * ((score_of_real - 1.0).square().mean() + score_of_fake.square().mean())


def cycle_loss(cycled: Tensor, real: Tensor) -> Tensor:
    """L1 between a picture and its way there and back, eq. (2)."""
    return functional.l1_loss(cycled, real)


def identity_loss(same: Tensor, real: Tensor) -> Tensor:
    """L1 between a picture and its translation into the domain that it is in already, section 5.2."""
    return functional.l1_loss(same, real)
