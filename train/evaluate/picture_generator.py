"""A generator as a function of pictures: uint8 (N, H, W, 3) RGB in and out, H and W multiples of 4.

This is the arithmetic that an exported graph holds too, so a checkpoint and its bundle differ by the export alone.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cyclegan_edge.contract import Batch, Translate, to_levels, to_signal
from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.train.data.crops import LUMA


class PictureGenerator(nn.Module):
    """uint8 (N, H, W, 3) RGB in and out around a generator of (N, 1 or 3, H, W) in -1..1; grey is its luma."""

    def __init__(self, generator: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.generator = generator
        self.dtype = dtype  # that the generator takes
        first = next((layer for layer in generator.modules() if isinstance(layer, nn.Conv2d)), None)
        self.grey = first is not None and first.in_channels == 1

    def forward(self, image: Tensor) -> Tensor:
        return self.levels(image).to(torch.uint8)

    def levels(self, image: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB -> float32 of the same shape, whole numbers 0..255, or NaN."""
        translated = self.translated(to_signal(image.float().permute(0, 3, 1, 2)))
        return to_levels(translated).permute(0, 2, 3, 1)

    def translated(self, x: Tensor) -> Tensor:
        """float32 (N, 3, H, W) RGB in -1..1 -> the same, translated."""
        if self.grey:
            x = LUMA[0] * x[:, 0:1] + LUMA[1] * x[:, 1:2] + LUMA[2] * x[:, 2:3]
        y: Tensor = self.generator(x.to(self.dtype)).float()
        if y.shape[1] == 1:
            y = torch.cat((y, y, y), dim=1)
        return y


def translate_with(generator: nn.Module, *, finite: bool = True) -> Translate:
    """`generator` as a function of pictures, on the device that it is on, in eval mode and without gradients.

    It may be in the middle of its training: after every call its mode and torch's random state are what they were.
    Where the values of a picture have to be `finite`, the function raises CheckpointError for others.
    """
    module = PictureGenerator(generator)

    def translate(images: Batch) -> Batch:
        device = next((parameter.device for parameter in generator.parameters()), torch.device("cpu"))
        with _in_eval_mode(generator), undisturbed(device):
            levels = module.levels(torch.from_numpy(images).to(device))
            if finite and not levels.isfinite().all():
                raise CheckpointError(
                    "The generator makes pictures of NaN or infinite values: its training diverged, so use an earlier "
                    "checkpoint."
                )
            translated: Batch = levels.to(torch.uint8).cpu().numpy()
        return translated

    return translate


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """No gradients inside; the random state of the CPU and of `device` is put back afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        yield


@contextlib.contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    """The mode is put back layer by layer: some may have been frozen in eval mode."""
    modes = [(layer, layer.training) for layer in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for layer, training in modes:
            layer.training = training
