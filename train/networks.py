"""The networks of CycleGAN (Zhu et al. 2017, arXiv:1703.10593, section 7.2, and its reference implementation).

    generator      (N, C, H, W) -> (N, D, H, W)      -1..1 -> -1..1, H and W multiples of `GeneratorConfig.multiple`
    discriminator  (N, D, H, W) -> (N, 1, h, w)      -1..1 -> one raw score per patch, no sigmoid

- ResNet generator: reflection padding, InstanceNorm without affine, no ReLU after a residual sum.
- U-Net generator: 4x4 kernels, halved to 1x1 at the size in its name, a skip connection at every level.
- Compact generator: for devices. All but the ends of it works on a quarter of the size, and what is fine in the picture
  goes past that; zero padding, sub-pixel convolutions (Shi et al. 2016, arXiv:1609.05158) instead of transposed ones.
- PatchGAN: 4x4 kernels, zero padding, 70x70 receptive field with 3 layers.
- InstanceNorm in float32 whatever the convolutions compute in.
- `model.N` keys are those of the reference, so its weights load one to one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cyclegan_edge.errors import ConfigError

InitMethod = Literal["normal", "xavier"]
NormLayer = Callable[[int], nn.Module]  # of so many channels

MAX_WIDTH = 4096  # channels of a first layer
MAX_BLOCKS = 256
MAX_LAYERS = 12  # of a discriminator: crops of 16384 px

_UNET_LEVELS = {"unet_128": 7, "unet_256": 8}  # how often the picture is halved


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """Shape of a generator: 11,378,179 parameters as it stands, 7,837,699 with 6 blocks."""

    kind: Literal["resnet", "unet_128", "unet_256", "compact"] = "resnet"
    width: int = 64  # channels of the first layer (ngf); of "compact", of nearly all
    blocks: int = 9  # residual blocks of "resnet" and "compact"; the paper uses 6 below 256 px
    dropout: bool = False  # half of the features, in every residual block or in the U-Net's middle
    upsampling: Literal["transposed", "resize"] = "transposed"  # "resize" leaves no checkerboards; "resnet" only

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise ConfigError(f"generator.width is {self.width}, expected 1 to {MAX_WIDTH}.")
        if not 0 <= self.blocks <= MAX_BLOCKS:
            raise ConfigError(f"generator.blocks is {self.blocks}, expected 0 to {MAX_BLOCKS}.")
        if self.kind != "resnet" and self.upsampling != "transposed":
            raise ConfigError(
                f"generator.upsampling is {self.upsampling!r}, which only the resnet generator has; use 'transposed'."
            )

    @property
    def multiple(self) -> int:
        """px: both sides of what this generator reads are multiples of this."""
        return 1 << _UNET_LEVELS.get(self.kind, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorConfig:
    """Shape of a discriminator: 2,764,737 parameters as it stands."""

    width: int = 64  # channels of the first layer (ndf)
    layers: int = 3  # of stride 2; 3 gives the 70x70 PatchGAN

    def __post_init__(self) -> None:
        for name, most in (("width", MAX_WIDTH), ("layers", MAX_LAYERS)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"discriminator.{name} is {getattr(self, name)}, expected 1 to {most}.")

    @property
    def smallest(self) -> int:
        """px: side of the smallest picture that leaves a patch to score."""
        return 1 << (self.layers + 2)


class InstanceNorm(nn.InstanceNorm2d):
    """InstanceNorm without affine, computed in float32 and returned in the dtype of its input.

    `decomposed` computes the same in elementary operations, which a compiler fuses with their neighbours and which keep
    the channels_last layout; torch's own kernel would copy to contiguous memory first.
    """

    decomposed = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        wide = x.float()
        if not self.decomposed:
            return super().forward(wide).to(x.dtype)
        variance, mean = torch.var_mean(wide, dim=(2, 3), correction=0, keepdim=True)
        return ((wide - mean) * torch.rsqrt(variance + self.eps)).to(x.dtype)


class ResidualBlock(nn.Module):
    """x + F(x), both 3x3 convolutions with reflection padding, or with zeros, which cost nothing."""

    def __init__(self, channels: int, *, dropout: bool = False, reflect: bool = True) -> None:
        super().__init__()
        padded = [nn.ReflectionPad2d(1)] if reflect else []
        self.conv_block = nn.Sequential(
            *padded,
            nn.Conv2d(channels, channels, 3, padding=int(not reflect)),
            InstanceNorm(channels),
            nn.ReLU(inplace=True),
            *([nn.Dropout(0.5)] if dropout else []),
            *padded,
            nn.Conv2d(channels, channels, 3, padding=int(not reflect)),
            InstanceNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return x + self.conv_block(x)  # type: ignore[no-any-return]


class ResnetGenerator(nn.Module):
    """c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-3."""

    def __init__(self, config: GeneratorConfig, in_channels: int = 3, out_channels: int = 3) -> None:
        super().__init__()
        width = config.width
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, width, 7),
            InstanceNorm(width),
            nn.ReLU(inplace=True),
        ]
        for channels in (width, 2 * width):  # (N, width, H, W) -> (N, 4 width, H/4, W/4)
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
                InstanceNorm(2 * channels),
                nn.ReLU(inplace=True),
            ]
        layers += [ResidualBlock(4 * width, dropout=config.dropout) for _ in range(config.blocks)]
        for channels in (4 * width, 2 * width):  # back to (N, width, H, W)
            layers += [
                _upsample(channels, channels // 2, config.upsampling),
                InstanceNorm(channels // 2),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.checkpointing = False  # keep no activations of the residual blocks; recompute them for the gradient

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) in -1..1 -> (N, out_channels, H, W) in -1..1."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return self.model(x)  # type: ignore[no-any-return]
        for layer in self.model:
            x = checkpoint(layer, x, use_reentrant=False) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class SubpixelConv(nn.Conv2d):
    """A convolution before `PixelShuffle(2)`: (N, C, h, w) -> (N, 4 D, h, w)."""

    def start_even(self) -> None:
        """Give the four pixels of each group the same weights, so that a picture starts without a checkerboard.

        Aitken et al. 2017, arXiv:1707.02937."""
        with torch.no_grad():
            self.weight.copy_(self.weight[::4].repeat_interleave(4, dim=0))


class CompactGenerator(nn.Module):
    """A generator for devices: 3.07 billion multiply-adds at 256x256 with width 64 and 8 blocks, 49.6 of the ResNet.

    body      a 12x12 convolution of stride 4, the residual blocks, and up to half of the size
    detail    half of the size, straight from the picture: what the body cannot carry
    head      both together, up to the whole size
    """

    def __init__(self, config: GeneratorConfig, in_channels: int = 3, out_channels: int = 3) -> None:
        super().__init__()
        width, half, detail = config.width, max(1, config.width // 2), max(1, config.width // 4)
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 12, stride=4, padding=4),
            InstanceNorm(width),
            nn.ReLU(inplace=True),
            *(ResidualBlock(width, dropout=config.dropout, reflect=False) for _ in range(config.blocks)),
            SubpixelConv(width, 4 * half, 3, padding=1),
            nn.PixelShuffle(2),
            InstanceNorm(half),
            nn.ReLU(inplace=True),
        )
        self.detail = nn.Sequential(nn.Conv2d(in_channels, detail, 6, stride=2, padding=2), nn.ReLU(inplace=True))
        self.head = nn.Sequential(
            SubpixelConv(half + detail, 4 * out_channels, 5, padding=2), nn.PixelShuffle(2), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) in -1..1 -> (N, out_channels, H, W) in -1..1."""
        return self.head(torch.cat((self.body(x), self.detail(x)), dim=1))  # type: ignore[no-any-return]


class UnetLevel(nn.Module):
    """Halve, go through the level below, double, and skip-connect the input: (N, C, h, w) -> (N, 2 C, h, w)."""

    def __init__(self, outer: int, inner: int, below: "UnetLevel | None", norm: NormLayer, *, dropout: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Conv2d(outer, inner, 4, stride=2, padding=1)]
        if below is not None:
            layers += [norm(inner), below]
        layers += [
            nn.ReLU(),
            nn.ConvTranspose2d(inner if below is None else 2 * inner, outer, 4, stride=2, padding=1),
            norm(outer),
        ]
        self.model = nn.Sequential(*layers, *([nn.Dropout(0.5)] if dropout else []))

    def forward(self, x: Tensor) -> Tensor:
        """The reference's skip connection carries LeakyReLU(x); the ReLU that follows makes both the same."""
        return torch.cat((x, self.model(x)), dim=1)


class UnetGenerator(nn.Module):
    """The generator of pix2pix (Isola et al. 2017, arXiv:1611.07004, section 6.1.1).

    `channels` has an entry for each level, outermost first: 64, 128, 256, and five times 512 for 256 px.
    """

    def __init__(
        self,
        channels: Sequence[int],
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        norm: NormLayer = InstanceNorm,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        first, *_, outer, innermost = channels
        level = UnetLevel(outer, innermost, None, norm, dropout=False)
        for outer, inner in reversed(list(pairwise(channels[:-1]))):
            level = UnetLevel(outer, inner, level, norm, dropout=dropout and outer == inner)
        self.model = nn.Module()  # the reference's name for the outermost level
        self.model.model = nn.Sequential(
            nn.Conv2d(in_channels, first, 4, stride=2, padding=1),
            level,
            nn.ReLU(),
            nn.ConvTranspose2d(2 * first, out_channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) in -1..1 -> (N, out_channels, H, W) in -1..1."""
        return self.model.model(x)  # type: ignore[operator, no-any-return]


class PatchDiscriminator(nn.Module):
    """C64-C128-C256-C512 and one score per patch."""

    def __init__(self, config: DiscriminatorConfig, in_channels: int = 3) -> None:
        super().__init__()
        channels = config.width
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for layer in range(1, config.layers + 1):
            wider = config.width * min(2**layer, 8)
            stride = 2 if layer < config.layers else 1
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1),
                InstanceNorm(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        layers += [nn.Conv2d(channels, 1, 4, padding=1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) in -1..1 -> (N, 1, h, w) raw scores; 256x256 gives 30x30."""
        return self.model(x)  # type: ignore[no-any-return]


def new_generator(config: GeneratorConfig, in_channels: int = 3, out_channels: int = 3) -> nn.Module:
    """The generator that `config` describes, with torch's own initial weights."""
    match config.kind:
        case "resnet":
            return ResnetGenerator(config, in_channels, out_channels)
        case "compact":
            return CompactGenerator(config, in_channels, out_channels)
        case "unet_128" | "unet_256":
            channels = [config.width * min(2**level, 8) for level in range(_UNET_LEVELS[config.kind])]
            return UnetGenerator(channels, in_channels, out_channels, dropout=config.dropout)


def init_weights(
    network: nn.Module, generator: torch.Generator, method: InitMethod = "normal", gain: float = 0.02
) -> None:
    """Initialise every convolution's weight by `method` and its bias to 0, in the order of the layers.

    `gain` is the standard deviation of "normal" (0.02 in the paper) and the gain of "xavier"."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            match method:
                case "normal":
                    nn.init.normal_(module.weight, 0.0, gain, generator=generator)
                case "xavier":
                    nn.init.xavier_normal_(module.weight, gain, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, SubpixelConv):
            module.start_even()


def _upsample(channels: int, fewer: int, upsampling: Literal["transposed", "resize"]) -> nn.Module:
    """(N, channels, h, w) -> (N, fewer, 2 h, 2 w)."""
    if upsampling == "transposed":
        return nn.ConvTranspose2d(channels, fewer, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(channels, fewer, 3))
