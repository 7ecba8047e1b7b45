import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.train.evaluate.picture_generator import translate_with


class Noisy(nn.Module):
    """Draws random numbers in eval mode too, and in training mode drops half of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(self.dropout(x * self.weight)) + 0 * torch.rand(1)  # type: ignore[no-any-return]


def test_pictures_survive_the_way_to_the_network_and_back(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)

    np.testing.assert_array_equal(translate_with(nn.Identity())(images), images)


def test_a_network_in_training_translates_in_eval_mode_and_is_left_as_it_was(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    network = Noisy().train()
    network.frozen.eval()
    before = torch.get_rng_state()

    translated = translate_with(network)(images)

    np.testing.assert_array_equal(translated, images)
    assert [layer.training for layer in network.modules()] == [True, True, False]
    assert network.weight.grad is None
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_pictures_that_are_not_finite_are_refused_save_for_samples(rng: np.random.Generator) -> None:
    class Diverged(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float("nan")

    images = rng.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)

    with pytest.raises(CheckpointError, match="NaN or infinite values"):
        translate_with(Diverged())(images)
    assert translate_with(Diverged(), finite=False)(images).shape == images.shape
