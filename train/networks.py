"""The two networks of CycleGAN (Zhu et al. 2017, arXiv:1703.10593, section 7.2, and its reference implementation).

    generator      (N, 3, H, W) -> (N, 3, H, W)      -1..1 -> -1..1, H and W multiples of 4
    discriminator  (N, 3, H, W) -> (N, 1, h, w)      -1..1 -> one raw score per patch, no sigmoid

- ResNet generator: reflection padding, InstanceNorm without affine, no ReLU after a residual sum.
- PatchGAN: 4x4 kernels, zero padding, 70x70 receptive field with 3 layers.
- Every weight starts from normal(0, 0.02), every bias at 0.
- `model.N` keys are those of the reference, so its weights load one to one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

START_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """Shape of a ResNet generator: 11,378,179 parameters as it stands, 7,837,699 with 6 blocks."""

    width: int = 64  # channels of the first layer (ngf)
    blocks: int = 9  # residual blocks


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorConfig:
    """Shape of a PatchGAN: 2,764,737 parameters as it stands."""

    width: int = 64  # channels of the first layer (ndf)
    layers: int = 3  # stride-2 layers


class ResidualBlock(nn.Module):
    """x + F(x), both 3x3 convolutions with reflection padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return x + self.conv_block(x)  # type: ignore[no-any-return]


class ResnetGenerator(nn.Module):
    """c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-3."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        width = config.width
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, width, 7),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        for channels in (width, 2 * width):  # (N, width, H, W) -> (N, 4 width, H/4, W/4)
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
                nn.InstanceNorm2d(2 * channels),
                nn.ReLU(inplace=True),
            ]
        layers += [ResidualBlock(4 * width) for _ in range(config.blocks)]
        for channels in (4 * width, 2 * width):  # back to (N, width, H, W)
            layers += [
                nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1),
                nn.InstanceNorm2d(channels // 2),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in -1..1 -> the same shape and range."""
        return self.model(x)  # type: ignore[no-any-return]


class PatchDiscriminator(nn.Module):
    """C64-C128-C256-C512 and one score per patch."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        channels = config.width
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for layer in range(1, config.layers + 1):
            wider = config.width * min(2**layer, 8)
            stride = 2 if layer < config.layers else 1
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        layers += [nn.Conv2d(channels, 1, 4, padding=1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in -1..1 -> (N, 1, h, w) raw scores; 256x256 gives 30x30."""
        return self.model(x)  # type: ignore[no-any-return]


def start_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Fill every convolution's weight from normal(0, 0.02) and its bias with 0, in the order of the layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, START_DEVIATION, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
