"""Half precision that keeps the picture: convolutions in float16, InstanceNorm in float32.

InstanceNorm divides by a deviation that it sums over the whole picture; in float16 that sum overflows or loses its
digits (black or NaN pictures). So each norm gets float32 through an explicit cast, which is also how a strongly typed
TensorRT network is told what to compute in which precision.
"""

import copy

from torch import Tensor, nn


class Float32InstanceNorm(nn.Module):
    """(N, C, h, w) float16 -> the same, with statistics and arithmetic in float32."""

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float()).to(x.dtype)  # type: ignore[no-any-return]


class Float32Tanh(nn.Module):
    """(N, C, H, W) float16 -> float32: float16 has too few steps near 1, where white lies."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().tanh()


def half_convolutions(generator: nn.Module) -> nn.Module:
    """A copy of `generator` that takes float16 and gives float32; the original is left as it is."""
    module = copy.deepcopy(generator).half()
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.InstanceNorm2d):
                setattr(parent, name, Float32InstanceNorm(child))
            elif isinstance(child, nn.Tanh):
                setattr(parent, name, Float32Tanh())
    return module
