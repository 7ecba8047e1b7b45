"""Generators of other implementations, rebuilt from their published architectures.

    generator      (N, inputs, H, W) -> (N, outputs, H, W)      -1..1, H and W multiples of `multiple`

- ResNet: as in `train/networks.py`, but each layer has its own width, residual blocks may be separable (Li et al. 2020,
  arXiv:2003.08936), and down- and upsampling may be anti-aliased (Zhang 2019, arXiv:1904.11486; Park et al. 2020,
  arXiv:2007.15651).
- U-Net: that of `train/networks.py`, with any widths and norms.
- Compact: ours, for weights without the run that they come from.
- The keys of a state dict are those of the originals without dropout.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cyclegan_edge.contract import MULTIPLE
from cyclegan_edge.train.networks import CompactGenerator, GeneratorConfig, UnetGenerator

Norm = Literal["instance", "affine", "batch", "none"]  # affine: InstanceNorm with a weight and a bias per channel
Padding = Literal["reflect", "replicate", "zero"]
Upsampling = Literal["transposed", "blurred", "resized"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResnetArchitecture:
    """Shape of a ResNet generator; a bundle's manifest holds these fields."""

    generator: Literal["resnet"] = "resnet"
    inputs: int = 3  # channels of a picture
    outputs: int = 3
    down: tuple[int, int, int]  # channels of the first layer and after each downsampling: (64, 128, 256)
    blocks: tuple[int, ...]  # channels inside each residual block
    up: tuple[int, int]  # channels after each upsampling: (128, 64)
    separable: bool = False  # residual blocks of depthwise 3x3, norm, pointwise 1x1
    padding: Padding = "reflect"  # in the residual blocks
    blurred_down: bool = False  # anti-aliased: a binomial filter after the convolution downsamples, not its stride
    upsampling: Upsampling = "transposed"
    norm: Norm = "instance"

    @property
    def multiple(self) -> int:
        """px: both sides of a batch are multiples of this."""
        return MULTIPLE


@dataclass(frozen=True, kw_only=True, slots=True)
class UnetArchitecture:
    """Shape of a U-Net generator; a bundle's manifest holds these fields."""

    generator: Literal["unet"] = "unet"
    inputs: int = 3  # channels of a picture
    outputs: int = 3
    channels: tuple[int, ...]  # of each level, outermost first: (64, 128, 256, 512, 512, 512, 512, 512) for 256 px
    norm: Norm = "instance"

    @property
    def multiple(self) -> int:
        """px: both sides of a batch are multiples of this."""
        return math.lcm(MULTIPLE, 2 ** len(self.channels))


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactArchitecture:
    """Shape of a compact generator; a bundle's manifest holds these fields."""

    generator: Literal["compact"] = "compact"
    inputs: int = 3  # channels of a picture
    outputs: int = 3
    width: int
    blocks: int
    norm: Literal["instance"] = "instance"

    @property
    def multiple(self) -> int:
        """px: both sides of a batch are multiples of this."""
        return MULTIPLE


Architecture = ResnetArchitecture | UnetArchitecture | CompactArchitecture


class SeparableConv2d(nn.Module):
    """A depthwise 3x3 convolution, InstanceNorm, and a pointwise 1x1 convolution."""

    def __init__(self, channels: int, wider: int, *, padding: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=padding, groups=channels),
            nn.InstanceNorm2d(channels),
            nn.Conv2d(channels, wider, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, wider, h - 2, w - 2), or of the same size with a padding of 1."""
        return self.conv(x)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """x + F(x), two 3x3 convolutions with `inner` channels between them."""

    def __init__(self, channels: int, inner: int, architecture: ResnetArchitecture) -> None:
        super().__init__()
        convolution = SeparableConv2d if architecture.separable else partial(nn.Conv2d, kernel_size=3)
        zeros = architecture.padding == "zero"  # by the convolution itself, where the others have a layer of their own
        pad = nn.ReplicationPad2d if architecture.padding == "replicate" else nn.ReflectionPad2d
        self.conv_block = nn.Sequential(
            *([] if zeros else [pad(1)]),
            convolution(channels, inner, padding=int(zeros)),
            _norm(architecture.norm, inner),
            nn.ReLU(),
            *([] if zeros else [pad(1)]),
            convolution(inner, channels, padding=int(zeros)),
            _norm(architecture.norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        return x + self.conv_block(x)  # type: ignore[no-any-return]


class BlurDown(nn.Module):
    """Downsamples by 2 with the filter 1 2 1, reflected at the border."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.register_buffer("filt", torch.empty(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h / 2, w / 2)."""
        return functional.conv2d(self.pad(x), self.filt, stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Upsamples by 2 with the filter 1 3 3 1, the border replicated."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pad = nn.ReplicationPad2d(1)
        self.register_buffer("filt", torch.empty(channels, 1, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, 2 h, 2 w)."""
        return functional.conv_transpose2d(self.pad(x), self.filt, stride=2, padding=3, groups=x.shape[1])


class ForeignResnet(nn.Module):
    """7x7 convolution, two downsamplings, residual blocks, two upsamplings, 7x7 convolution, tanh."""

    def __init__(self, architecture: ResnetArchitecture) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(architecture.inputs, architecture.down[0], 7),
            _norm(architecture.norm, architecture.down[0]),
            nn.ReLU(),
        ]
        for channels, wider in pairwise(architecture.down):  # (N, down[0], H, W) -> (N, down[2], H/4, W/4)
            stride = 1 if architecture.blurred_down else 2
            layers += [nn.Conv2d(channels, wider, 3, stride, 1), _norm(architecture.norm, wider), nn.ReLU()]
            layers += [BlurDown(wider)] if architecture.blurred_down else []
        layers += [ResidualBlock(architecture.down[-1], inner, architecture) for inner in architecture.blocks]
        for channels, narrower in pairwise((architecture.down[-1], *architecture.up)):  # back to (N, up[1], H, W)
            layers += [
                *_upsampling(architecture.upsampling, channels, narrower),
                _norm(architecture.norm, narrower),
                nn.ReLU(),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(architecture.up[-1], architecture.outputs, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) in -1..1 -> (N, outputs, H, W) in -1..1."""
        return self.model(x)  # type: ignore[no-any-return]


def empty_generator(architecture: Architecture) -> nn.Module:
    """The generator of `architecture` on the meta device: shapes, no memory, until a state dict is assigned."""
    with torch.device("meta"):
        if isinstance(architecture, ResnetArchitecture):
            return ForeignResnet(architecture)
        if isinstance(architecture, CompactArchitecture):
            config = GeneratorConfig(kind="compact", width=architecture.width, blocks=architecture.blocks)
            return CompactGenerator(config, architecture.inputs, architecture.outputs)
        norm = partial(_norm, architecture.norm)
        return UnetGenerator(architecture.channels, architecture.inputs, architecture.outputs, norm=norm)


def fold_batch_norms(generator: nn.Module) -> None:
    """Put each batch norm's running statistics into the convolution before it, in place: the same numbers in eval mode.

    `generator` holds its weights and is in eval mode.
    """
    for sequence in [module for module in generator.modules() if isinstance(module, nn.Sequential)]:
        for position, (layer, norm) in enumerate(pairwise(list(sequence))):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            sequence[position + 1] = nn.Identity()
            if isinstance(layer, SeparableConv2d):
                layer.conv[2] = fuse_conv_bn_eval(cast("nn.Conv2d", layer.conv[2]), norm)
            else:
                transposed = isinstance(layer, nn.ConvTranspose2d)
                sequence[position] = fuse_conv_bn_eval(cast("nn.Conv2d", layer), norm, transpose=transposed)


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


def _upsampling(kind: Upsampling, channels: int, narrower: int) -> list[nn.Module]:
    match kind:
        case "transposed":
            return [nn.ConvTranspose2d(channels, narrower, 3, 2, 1, output_padding=1)]
        case "blurred":
            return [BlurUp(channels), nn.Conv2d(channels, narrower, 3, padding=1)]
        case "resized":
            return [nn.Upsample(scale_factor=2), nn.Conv2d(channels, narrower, 3, padding=1)]
