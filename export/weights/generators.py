"""Generators of other implementations, rebuilt from their published layouts.

    generator      (N, 3, H, W) -> (N, 3, H, W)      -1..1 -> -1..1, H and W multiples of the layout's `multiple`

- ResNet: as in `train/networks.py`, but every layer may have its own width, residual blocks may be separable (Li et al.
  2020, arXiv:2003.08936), and halving and doubling may blur (Zhang 2019, arXiv:1904.11486; Park et al. 2020,
  arXiv:2007.15651).
- U-Net: 4x4 kernels, each level's input beside its output (Isola et al. 2017, arXiv:1611.07004, section 6.1.1).
- `model.N` keys are those of the originals without dropout, so their weights load one to one.
"""

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cyclegan_edge.contract import MULTIPLE

Norm = Literal["instance", "affine", "batch", "none"]  # affine: InstanceNorm with a weight and a bias per channel
Upsampling = Literal["transposed", "blurred", "resized"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResnetLayout:
    """Shape of a ResNet generator."""

    inputs: int = 3  # channels of a picture
    outputs: int = 3
    down: tuple[int, int, int]  # channels of the first layer and after each halving: (64, 128, 256)
    blocks: tuple[int, ...]  # channels inside each residual block
    up: tuple[int, int]  # channels after each doubling: (128, 64)
    separable: bool = False  # residual blocks of depthwise 3x3, norm, pointwise 1x1
    blurred_down: bool = False  # halved by a binomial filter after the convolution, not by its stride
    upsampling: Upsampling = "transposed"
    norm: Norm = "instance"

    @property
    def multiple(self) -> int:
        """px, what both sides of a batch are multiples of."""
        return MULTIPLE


@dataclass(frozen=True, kw_only=True, slots=True)
class UnetLayout:
    """Shape of a U-Net generator."""

    inputs: int = 3  # channels of a picture
    outputs: int = 3
    channels: tuple[int, ...]  # after each halving, outermost first: (64, 128, 256, 512, 512, 512, 512, 512) for 256 px
    norm: Norm = "instance"

    @property
    def multiple(self) -> int:
        """px, what both sides of a batch are multiples of."""
        return math.lcm(MULTIPLE, 2 ** len(self.channels))


Layout = ResnetLayout | UnetLayout


class Separable(nn.Module):
    """A 3x3 convolution of each channel, InstanceNorm, and a 1x1 convolution over channels."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, groups=channels),
            nn.InstanceNorm2d(channels),
            nn.Conv2d(channels, wider, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, wider, h - 2, w - 2)."""
        return self.conv(x)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """x + F(x), two convolutions with reflection padding and `inner` channels between them."""

    def __init__(self, channels: int, inner: int, layout: ResnetLayout) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            Separable(channels, inner) if layout.separable else nn.Conv2d(channels, inner, 3),
            _norm(layout.norm, inner),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            Separable(inner, channels) if layout.separable else nn.Conv2d(inner, channels, 3),
            _norm(layout.norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        return x + self.conv_block(x)  # type: ignore[no-any-return]


class BlurDown(nn.Module):
    """Halves with the filter 1 2 1, mirrored at the border."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.register_buffer("filt", torch.empty(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h / 2, w / 2)."""
        return functional.conv2d(self.pad(x), self.filt, stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Doubles with the filter 1 3 3 1, the border repeated."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = nn.ReplicationPad2d(1)
        self.register_buffer("filt", torch.empty(channels, 1, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, 2 h, 2 w)."""
        return functional.conv_transpose2d(self.pad(x), self.filt, stride=2, padding=3, groups=x.shape[1])


class ForeignResnet(nn.Module):
    """c7s1, two halvings, residual blocks, two doublings, c7s1, tanh."""

    def __init__(self, layout: ResnetLayout) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(layout.inputs, layout.down[0], 7),
            _norm(layout.norm, layout.down[0]),
            nn.ReLU(),
        ]
        for channels, wider in pairwise(layout.down):  # (N, down[0], H, W) -> (N, down[2], H/4, W/4)
            stride = 1 if layout.blurred_down else 2
            layers += [nn.Conv2d(channels, wider, 3, stride, 1), _norm(layout.norm, wider), nn.ReLU()]
            layers += [BlurDown(wider)] if layout.blurred_down else []
        layers += [Residual(layout.down[-1], inner, layout) for inner in layout.blocks]
        for channels, narrower in pairwise((layout.down[-1], *layout.up)):  # back to (N, up[1], H, W)
            layers += [*_doubling(layout.upsampling, channels, narrower), _norm(layout.norm, narrower), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(layout.up[-1], layout.outputs, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) in -1..1 -> (N, outputs, H, W) in -1..1."""
        return self.model(x)  # type: ignore[no-any-return]


class UnetLevel(nn.Module):
    """Halves, goes through the level inside, doubles; all but the outermost give their input too."""

    def __init__(self, layers: list[nn.Module], *, outermost: bool = False) -> None:
        super().__init__()
        self.outermost = outermost
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 2 C, h, w); the outermost: (N, inputs, H, W) -> (N, outputs, H, W)."""
        y: Tensor = self.model(x)
        return y if self.outermost else torch.cat([x, y], 1)


class ForeignUnet(nn.Module):
    """As many levels as `layout.channels` has entries."""

    def __init__(self, layout: UnetLayout) -> None:
        super().__init__()
        outer, innermost = layout.channels[-2:]
        level = UnetLevel(
            [
                nn.LeakyReLU(0.2),
                nn.Conv2d(outer, innermost, 4, 2, 1),
                nn.ReLU(),
                nn.ConvTranspose2d(innermost, outer, 4, 2, 1),
                _norm(layout.norm, outer),
            ]
        )
        for outer, inner in reversed(list(pairwise(layout.channels[:-1]))):
            level = UnetLevel(
                [
                    nn.LeakyReLU(0.2),
                    nn.Conv2d(outer, inner, 4, 2, 1),
                    _norm(layout.norm, inner),
                    level,
                    nn.ReLU(),
                    nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1),
                    _norm(layout.norm, outer),
                ]
            )
        first = layout.channels[0]
        self.model = UnetLevel(
            [
                nn.Conv2d(layout.inputs, first, 4, 2, 1),
                level,
                nn.ReLU(),
                nn.ConvTranspose2d(2 * first, layout.outputs, 4, 2, 1),
                nn.Tanh(),
            ],
            outermost=True,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) in -1..1 -> (N, outputs, H, W) in -1..1."""
        return self.model(x)  # type: ignore[no-any-return]


def empty_generator(layout: Layout) -> nn.Module:
    """The generator of `layout` on the meta device: shapes, no memory, until a state dict is assigned."""
    with torch.device("meta"):
        return ForeignUnet(layout) if isinstance(layout, UnetLayout) else ForeignResnet(layout)


def fold_batch_norms(generator: nn.Module) -> None:
    """Put each batch norm's running statistics into the convolution before it, in place: the same numbers in eval mode.

    `generator` holds its weights and is in eval mode.
    """
    for sequence in [module for module in generator.modules() if isinstance(module, nn.Sequential)]:
        for position, (layer, norm) in enumerate(pairwise(list(sequence))):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            sequence[position + 1] = nn.Identity()
            if isinstance(layer, Separable):
                layer.conv[2] = fuse_conv_bn_eval(cast("nn.Conv2d", layer.conv[2]), norm)
            else:
                transposed = isinstance(layer, nn.ConvTranspose2d)
                sequence[position] = fuse_conv_bn_eval(cast("nn.Conv2d", layer), norm, transpose=transposed)


def to_plain(layout: Layout) -> dict[str, Any]:
    """The layout as values that JSON can hold."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(layout).items()}
    return {"generator": "unet" if isinstance(layout, UnetLayout) else "resnet", **values}


def _norm(kind: Norm, channels: int) -> nn.Module:
    match kind:
        case "instance":
            return nn.InstanceNorm2d(channels)
        case "affine":
            return nn.InstanceNorm2d(channels, affine=True)
        case "batch":
            return nn.BatchNorm2d(channels)
        case "none":
            return nn.Identity()


def _doubling(kind: Upsampling, channels: int, narrower: int) -> list[nn.Module]:
    match kind:
        case "transposed":
            return [nn.ConvTranspose2d(channels, narrower, 3, 2, 1, output_padding=1)]
        case "blurred":
            return [BlurUp(channels), nn.Conv2d(channels, narrower, 3, padding=1)]
        case "resized":
            return [nn.Upsample(scale_factor=2), nn.Conv2d(channels, narrower, 3, padding=1)]
