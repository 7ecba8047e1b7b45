"""Which generator a file's weights are of, from their names and shapes alone.

    names and shapes -> a layout of `generators.py`, and the weights under the names that it knows

Known are the ResNet and U-Net of the reference (github.com/junyanz/pytorch-CycleGAN-and-pix2pix), what shares its
names (aitorzip/PyTorch-CycleGAN, eriklindernoren/PyTorch-GAN), the ResNet of contrastive-unpaired-translation with its
blurs, and the separable one of GAN-Compression. Every guess is checked: in the end each name and shape must fit.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.export.weights.generators import (
    Layout,
    Norm,
    ResnetLayout,
    UnetLayout,
    Upsampling,
    empty_generator,
    fold_batch_norms,
)
from cyclegan_edge.export.weights.read import as_float32

NormChoice = Literal["instance", "batch", "none"]
Weights = Mapping[str, Tensor]

MAX_WIDTH = 4096  # channels of any layer
MAX_BLOCKS = 64
MAX_LEVELS = 10  # of a U-Net: pictures of 1024 px

_RESNET = re.compile(r"((?:.*\.)?)model\.\d+\.(?:conv_block|block)\.\d+\.(?:conv\.0\.)?weight")
_UNET = re.compile(r"((?:.*\.)?)model\.model\.0\.weight")
_LEVEL = "model.model.1."  # the second level of a U-Net
_AB, _BA = (
    re.compile(rf"(?:net|model)?g(?:en|enerator)?s?{direction}(?:ema)?")
    for direction in ("(?:a2b|atob|ab|a)", "(?:b2a|btoa|ba|b)")
)
_BOXES = frozenset(  # names of dictionaries around weights, which say nothing about them
    {"state_dict", "model_state_dict", "generator_state_dict", "model", "models", "networks", "net", "nets", "params"}
    | {"weights", "ema", "params_ema", "model_ema", "ema_state_dict", "ema_model"}
)
_STATISTICS = (".running_mean", ".running_var")
_LUMA = (0.299, 0.587, 0.114)  # of a grey picture from red, green and blue, as Pillow and OpenCV have it
_SHOWN = 3  # names in an error
_KNOWN = "known layouts are the ResNet and U-Net of the reference, and the ResNets of CUT and of GAN-Compression"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """A generator with its weights, and what was found about it."""

    generator: nn.Module  # (N, 3, H, W) -> (N, 3, H, W), float32, on the CPU, in eval mode
    layout: Layout  # of `generator`
    name: str  # "CUT ResNet"
    found: tuple[str, ...]  # "9 blocks", "64 channels", ...


def choose_generator(weights: Weights, direction: Direction, path: Path) -> tuple[dict[str, Tensor], str]:
    """The weights of one generator of the file, under the names it gives itself, and what the file calls it.

    Of several, the one whose name says `direction`, and of those the moving average. Raises CheckpointError when there
    is none or no way to choose.
    """
    weights = {name: tensor for name, tensor in weights.items() if not name.lower().startswith("optim")}
    prefixes = dict.fromkeys(match[1] for name in weights if (match := _RESNET.fullmatch(name)))
    for match in filter(None, map(_UNET.fullmatch, weights)):
        if f"{match[1]}{_LEVEL}model.1.weight" in weights:
            prefixes[match[1]] = None
    if not prefixes:
        raise CheckpointError(
            f"{path} has no generator of a known layout: none of {_listed(weights)} fits one; {_KNOWN}."
        )
    chosen = list(prefixes)
    if len(chosen) > 1:
        other = _BA if direction == "ab" else _AB
        chosen = [prefix for prefix in chosen if not other.fullmatch(_called(prefix))]
    if len(chosen) > 1:
        chosen = [prefix for prefix in chosen if "ema" in prefix.lower()] or chosen
    if len(chosen) != 1:
        raise CheckpointError(
            f"{path} has the generators {_listed(prefixes)}, and their names do not say which one is {direction!r}; "
            f"save that one's state_dict alone."
        )
    prefix = chosen[0]
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    return own, prefix.removesuffix(".")


def recognise(weights: Weights, path: Path, *, norm: NormChoice | None = None) -> Recognised:
    """The generator that `weights` are of; `norm` decides where they leave open how it normalises.

    Raises CheckpointError with the first names that do not fit.
    """
    weights = {re.sub(r"^(model\.\d+\.)block\.", r"\1conv_block.", name): tensor for name, tensor in weights.items()}
    unet = "model.model.0.weight" in weights
    dropout = not unet and _places(weights, r"model\.\d+\.conv_block\.(\d+)\.(?:conv\.0\.)?weight")[-1:] == [6]
    if dropout:
        weights = {_without_dropout(name): tensor for name, tensor in weights.items()}
    kind = _norm_kind(weights, path, norm, unet=unet)
    try:
        layout: Layout = _unet_layout(weights, kind) if unet else _resnet_layout(weights, kind)
    except (IndexError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} looks like a {'U-Net' if unet else 'ResNet'}, but {_sentence(error)}; {_KNOWN}."
        ) from error
    name, about = _describe(layout, dropout)
    generator = empty_generator(layout)
    fitted, stale = _fitted(weights, generator, name, path)
    if stale:
        about.append(f"{stale} stale statistics dropped")
    generator.load_state_dict(as_float32(fitted, path), strict=False, assign=True)
    generator.eval().requires_grad_(False)
    if layout.norm == "batch":
        fold_batch_norms(generator)
        layout = replace(layout, norm="none")
    return Recognised(generator=generator, layout=_coloured(generator, layout, path), name=name, found=tuple(about))


def _norm_kind(weights: Weights, path: Path, norm: NormChoice | None, *, unet: bool) -> Norm:
    """How the generator normalises: what its tensors show, or `norm` where they leave it open."""
    affine = any(name.endswith(".weight") and tensor.ndim == 1 for name, tensor in weights.items())
    statistics = any(name.endswith(_STATISTICS) for name in weights)
    biased = (f"{_LEVEL}model.1.bias" if unet else "model.1.bias") in weights
    match norm:
        case "batch" if affine and statistics:
            return "batch"
        case "batch":
            raise CheckpointError(f"{path} has no norms with weights and running statistics; leave out --norm batch.")
        case "none" if affine:
            raise CheckpointError(f"{path} has norms with weights, which are used; leave out --norm none.")
        case "none" | "instance" if not affine:
            return norm
        case "instance":
            return "affine"
    if affine:
        return "batch" if statistics else "affine"
    if not biased:
        raise CheckpointError(
            f"{path} has convolutions without bias and norms without weights, which leaves open whether it normalises; "
            f"say it with `cyclegan-edge import {path} --norm instance` or `--norm none`."
        )
    return "instance"


def _resnet_layout(weights: Weights, norm: Norm) -> ResnetLayout:
    """Read widths and kinds along the layers. Raises KeyError for a missing layer, ValueError for a wrong one."""
    blocks = _places(weights, r"model\.(\d+)\.conv_block\..*")
    if len(blocks) > MAX_BLOCKS:
        raise ValueError(f"it has {len(blocks)} residual blocks, more than {MAX_BLOCKS}")
    layers = _places(weights, r"model\.(\d+)\.weight")
    before = [layer for layer in layers if layer < blocks[0]]
    after = [layer for layer in layers if layer > blocks[-1]]
    if (len(before), len(after)) != (3, 3):
        raise ValueError(
            f"it has {len(before)} convolutions before its blocks and {len(after)} after them, not 3 and 3"
        )
    first = _weight(weights, "model.1")
    separable = f"model.{blocks[0]}.conv_block.1.conv.0.weight" in weights
    inner = ".conv.2" if separable else ""
    upsampling: Upsampling = "transposed" if blocks[-1] + 1 in after else "resized"
    if f"model.{blocks[-1] + 1}.filt" in weights:
        upsampling = "blurred"
    side = 1 if upsampling == "transposed" else 0  # where a weight has the channels that come out
    down = [_width(_weight(weights, f"model.{layer}").shape[0]) for layer in before]
    up = [_width(_weight(weights, f"model.{layer}").shape[side]) for layer in after[:-1]]
    return ResnetLayout(
        inputs=first.shape[1],
        outputs=_weight(weights, f"model.{after[-1]}").shape[0],
        down=(down[0], down[1], down[2]),
        blocks=tuple(_width(_weight(weights, f"model.{block}.conv_block.1{inner}").shape[0]) for block in blocks),
        up=(up[0], up[1]),
        separable=separable,
        blurred_down=f"model.{before[1] + 3}.filt" in weights,
        upsampling=upsampling,
        norm=norm,
    )


def _unet_layout(weights: Weights, norm: Norm) -> UnetLayout:
    """Read widths from the outermost level inwards. Raises KeyError for a missing layer, ValueError for a wrong one."""
    first, level = _weight(weights, "model.model.0"), _LEVEL
    channels = [_width(first.shape[0])]
    while True:
        channels.append(_width(_weight(weights, f"{level}model.1").shape[0]))
        if f"{level}model.3.weight" in weights:  # the innermost level goes up at once
            break
        if len(channels) > MAX_LEVELS:
            raise ValueError(f"it has more than {MAX_LEVELS} levels")
        level += "model.3."
    outputs = _weight(weights, "model.model.3").shape[1]
    return UnetLayout(inputs=first.shape[1], outputs=outputs, channels=tuple(channels), norm=norm)


def _fitted(weights: Weights, generator: nn.Module, name: str, path: Path) -> tuple[dict[str, Tensor], int]:
    """The weights that `generator` takes, each of its shape, and how many stale statistics were left out.

    A convolution without bias gets one of zeros. Raises CheckpointError with what does not fit.
    """
    expected = {key: value for key, value in generator.state_dict().items() if value.is_floating_point()}
    fitted = {key: tensor for key, tensor in weights.items() if key in expected or not key.endswith(_STATISTICS)}
    for key, value in expected.items():
        if key.endswith(".bias") and key not in fitted and f"{key.removesuffix('bias')}weight" in fitted:
            fitted[key] = torch.zeros(value.shape)
    strange = [key for key in fitted if key not in expected]
    missing = [key for key in expected if key not in fitted]
    if strange or missing:
        reasons = [f"{_listed(strange)} should not be there"] if strange else []
        reasons += [f"{_listed(missing)} should"] if missing else []
        raise CheckpointError(f"{path} looks like a {name}, but {' and '.join(reasons)}; {_KNOWN}.")
    for key, value in expected.items():
        if fitted[key].shape != value.shape:
            raise CheckpointError(
                f"{path} looks like a {name}, but {key!r} has the shape {tuple(fitted[key].shape)}, expected "
                f"{tuple(value.shape)}; {_KNOWN}."
            )
    return fitted, len(weights) - sum(key in weights for key in fitted)


def _coloured(generator: nn.Module, layout: Layout, path: Path) -> Layout:
    """Make a generator of grey pictures one of RGB, in place: grey is a weighted sum, as its first layer computes."""
    convolutions = [layer for layer in generator.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    first, last = convolutions[0], convolutions[-1]
    if {layout.inputs, layout.outputs} - {1, 3}:
        raise CheckpointError(
            f"{path} turns {layout.inputs} channels into {layout.outputs}, expected pictures: 1 (grey) or 3 (RGB)."
        )
    if layout.inputs == 1:
        first.weight = nn.Parameter(first.weight * torch.tensor(_LUMA)[:, None, None], requires_grad=False)
        first.in_channels = 3
    if layout.outputs == 1:
        assert last.bias is not None
        axis = 1 if isinstance(last, nn.ConvTranspose2d) else 0
        last.weight = nn.Parameter(last.weight.repeat_interleave(3, axis), requires_grad=False)
        last.bias = nn.Parameter(last.bias.repeat(3), requires_grad=False)
        last.out_channels = 3
    return replace(layout, inputs=3, outputs=3)


def _describe(layout: Layout, dropout: bool) -> tuple[str, list[str]]:
    """What to call a layout, and what its user will want to know of it."""
    match layout:
        case UnetLayout():
            name = "U-Net"
            found = [f"{len(layout.channels)} levels", f"{layout.channels[0]} channels"]
        case ResnetLayout():
            blurred = layout.blurred_down or layout.upsampling == "blurred"
            name = "separable ResNet" if layout.separable else "CUT ResNet" if blurred else "ResNet"
            widths = " and ".join(map(str, sorted({layout.down[0], layout.up[1]})))
            found = [f"{len(layout.blocks)} block{'s' * (len(layout.blocks) > 1)}", f"{widths} channels"]
            found += ["blurred halving"] if layout.blurred_down else []
            found += [f"{layout.upsampling} doubling"] if layout.upsampling != "transposed" else []
    norms = {
        "instance": "instance norm",
        "affine": "instance norm with weights",
        "batch": "batch norm with its running statistics, folded into the convolutions",
        "none": "no norm",
    }
    found.append(norms[layout.norm])
    if dropout:
        found.append("dropout left out")
    if (layout.inputs, layout.outputs) != (3, 3):
        found.append(f"{layout.inputs} -> {layout.outputs} colour channels")
    return name, found


def _places(weights: Weights, pattern: str) -> list[int]:
    """The numbers that `pattern` finds in the names of convolutions' weights, sorted, each once."""
    matches = (re.fullmatch(pattern, name) for name, tensor in weights.items() if tensor.ndim == 4)
    return sorted({int(match[1]) for match in matches if match})


def _without_dropout(name: str) -> str:
    match = re.fullmatch(r"(model\.\d+\.conv_block\.)(\d+)(\..*)", name)
    return f"{match[1]}{int(match[2]) - 1}{match[3]}" if match and int(match[2]) > 4 else name


def _weight(weights: Weights, layer: str) -> Tensor:
    return weights[f"{layer}.weight"]


def _width(channels: int) -> int:
    if not 1 <= channels <= MAX_WIDTH:
        raise ValueError(f"a layer has {channels} channels, more than {MAX_WIDTH}")
    return channels


def _called(prefix: str) -> str:
    """What a file calls a generator: "networks.netG_A.model.1" -> "netga"."""
    parts = (part for part in prefix.lower().split(".") if part not in _BOXES)
    return re.sub(r"[^a-z0-9]", "", "".join(parts))


def _listed(names: Iterable[str]) -> str:
    """The first few names, in quotes."""
    few = list(islice(names, _SHOWN + 1))
    return ", ".join(chain(map(repr, few[:_SHOWN]), ["..."] if len(few) > _SHOWN else []))


def _sentence(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return str(error) if isinstance(error, ValueError) else "layers are missing"
