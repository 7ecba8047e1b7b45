"""Which generator a file's weights belong to, from their names and shapes alone.

    names and shapes -> an architecture of `generators.py`, and the weights under its names

Known are the ResNet and U-Net of the reference (github.com/junyanz/pytorch-CycleGAN-and-pix2pix), what shares its
names (aitorzip/PyTorch-CycleGAN, eriklindernoren/PyTorch-GAN), the anti-aliased ResNet of
contrastive-unpaired-translation, the separable one of GAN-Compression, and our own compact one. Every guess is checked:
in the end each name and shape must fit.
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
    Architecture,
    CompactArchitecture,
    Norm,
    Padding,
    ResnetArchitecture,
    UnetArchitecture,
    Upsampling,
    empty_generator,
    fold_batch_norms,
)
from cyclegan_edge.export.weights.read import as_float32

NormChoice = Literal["instance", "batch", "none"]
PaddingChoice = Literal["reflect", "replicate"]
Weights = Mapping[str, Tensor]

MAX_WIDTH = 4096  # channels of any layer
MAX_BLOCKS = 64
MAX_LEVELS = 10  # of a U-Net: pictures of 1024 px

_RESNET = re.compile(r"((?:.*\.)?)model\.\d+\.(?:conv_block|block)\.\d+\.(?:conv\.0\.)?weight")
_UNET = re.compile(r"((?:.*\.)?)model\.model\.0\.weight")
_UNET_LEVEL_2 = "model.model.1."
_COMPACT = re.compile(r"((?:.*\.)?)body\.0\.weight")
_AB, _BA = (
    re.compile(rf"(?:net|model)?g(?:en|enerator)?s?{direction}(?:ema)?")
    for direction in ("(?:a2b|atob|ab|a)", "(?:b2a|btoa|ba|b)")
)
_CONTAINERS = frozenset(  # names of dictionaries around weights that do not tell generators apart
    {"state_dict", "model_state_dict", "generator_state_dict", "model", "models", "networks", "net", "nets", "params"}
    | {"weights", "ema", "params_ema", "model_ema", "ema_state_dict", "ema_model"}
)
_IN_BLOCK = re.compile(r"((?:model|body)\.\d+\.)(?:conv_block|block)\.(\d+)\.(.+)")
_BLOCKS: dict[tuple[int, ...], tuple[Padding, int | None]] = {  # where the two convolutions are: padding, dropout
    (1, 5): ("reflect", None),
    (1, 6): ("reflect", 4),
    (0, 3): ("zero", None),
    (0, 4): ("zero", 3),
}
_STATISTICS = (".running_mean", ".running_var")
_SHOWN = 3  # names in an error
_KNOWN = (
    "known are the ResNet and U-Net of the reference, the ResNets of CUT and of GAN-Compression, and our compact one"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """A generator with its weights, and what was recognised."""

    generator: nn.Module  # (N, 1 or 3, H, W) -> (N, 1 or 3, H, W), float32, on the CPU, in eval mode
    architecture: Architecture  # of `generator`
    description: str  # "CUT ResNet, 9 blocks, 64 channels, ..."


def choose_generator(weights: Weights, direction: Direction, path: Path) -> tuple[dict[str, Tensor], str]:
    """The weights of one generator of the file, without what precedes its own names, and what the file calls it.

    Of several, the one whose name says `direction`, and of those the moving average. Raises CheckpointError when there
    is none or no way to choose.
    """
    weights = {name: tensor for name, tensor in weights.items() if not name.lower().startswith("optim")}
    prefixes = dict.fromkeys(match[1] for name in weights if (match := _RESNET.fullmatch(name)))
    for match in filter(None, map(_UNET.fullmatch, weights)):
        if f"{match[1]}{_UNET_LEVEL_2}model.1.weight" in weights:
            prefixes[match[1]] = None
    for match in filter(None, map(_COMPACT.fullmatch, weights)):
        if f"{match[1]}detail.0.weight" in weights:
            prefixes[match[1]] = None
    if not prefixes:
        raise CheckpointError(
            f"{path} has no generator of a known architecture: none of {_quoted(weights)} fits one; {_KNOWN}."
        )
    chosen = list(prefixes)
    if len(chosen) > 1:
        other = _BA if direction == "ab" else _AB
        chosen = [prefix for prefix in chosen if not other.fullmatch(_network_name(prefix))]
    if len(chosen) > 1:
        chosen = [prefix for prefix in chosen if "ema" in prefix.lower()] or chosen
    if len(chosen) != 1:
        raise CheckpointError(
            f"{path} has the generators {_quoted(prefixes)}, and their names do not say which one is {direction!r}; "
            f"save the state_dict of that one alone."
        )
    prefix = chosen[0]
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    return own, prefix.removesuffix(".")


def recognise(
    weights: Weights, path: Path, *, norm: NormChoice | None = None, padding: PaddingChoice | None = None
) -> Recognised:
    """The generator that `weights` belong to.

    norm      how it normalises, where the weights leave that open
    padding   of the residual blocks, where the weights leave that open; "reflect" when left out

    Raises CheckpointError with the first names that do not fit.
    """
    if "body.0.weight" in weights:
        return _recognise_compact(weights, path, norm=norm, padding=padding)
    unet = "model.model.0.weight" in weights
    weights, block_padding, dropout = (weights, None, False) if unet else _without_dropout(weights)
    if padding and block_padding != "reflect":
        raise CheckpointError(
            f"{path} has a {'U-Net' if unet else 'ResNet that pads with zeros'}, so its padding is known; leave out "
            f"--padding {padding}."
        )
    norm_kind = _norm_kind(weights, path, norm, unet=unet)
    try:
        architecture: Architecture = (
            _unet_architecture(weights, norm_kind)
            if unet
            else _resnet_architecture(weights, norm_kind, padding or block_padding or "reflect")
        )
    except (IndexError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} looks like a {'U-Net' if unet else 'ResNet'}, but {_reason(error)}; {_KNOWN}."
        ) from error
    return _with_weights(architecture, weights, path, dropout=dropout)


def _recognise_compact(
    weights: Weights, path: Path, *, norm: NormChoice | None, padding: PaddingChoice | None
) -> Recognised:
    if norm or padding:
        raise CheckpointError(f"{path} has a compact generator, whose norm and padding are known; leave them out.")
    weights, _, dropout = _without_dropout(weights)
    try:
        first, blocks = _weight(weights, "body.0"), _indices(weights, r"body\.(\d+)\.conv_block\..*")
        if len(blocks) > MAX_BLOCKS:
            raise ValueError(f"it has {len(blocks)} residual blocks, more than {MAX_BLOCKS}")
        architecture = CompactArchitecture(
            inputs=first.shape[1],
            outputs=_weight(weights, "head.0").shape[0] // 4,
            width=_width(first.shape[0]),
            blocks=len(blocks),
        )
    except (IndexError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} looks like a compact generator, but {_reason(error)}; {_KNOWN}.") from error
    return _with_weights(architecture, weights, path, dropout=dropout)


def _with_weights(architecture: Architecture, weights: Weights, path: Path, *, dropout: bool) -> Recognised:
    if {architecture.inputs, architecture.outputs} - {1, 3}:
        raise CheckpointError(
            f"{path} turns {architecture.inputs} channels into {architecture.outputs}, expected 1 (grey) or 3 (RGB)."
        )
    name, details = _describe(architecture, dropout=dropout)
    generator = empty_generator(architecture)
    fitting, stale = _fit(weights, generator, name, path)
    if stale:
        details.append(f"{stale} stale statistics dropped")
    generator.load_state_dict(as_float32(fitting, path), strict=False, assign=True)
    generator.eval().requires_grad_(False)
    if architecture.norm == "batch":
        fold_batch_norms(generator)
        architecture = replace(architecture, norm="none")
    return Recognised(generator=generator, architecture=architecture, description=", ".join((name, *details)))


def _without_dropout(weights: Weights) -> tuple[Weights, Padding | None, bool]:
    """The weights under the names of residual blocks without dropout, how those pad, and whether they had dropout."""
    matches = {name: _IN_BLOCK.fullmatch(name) for name in weights}
    positions = {int(match[2]) for name, match in matches.items() if match and weights[name].ndim == 4}
    padding, dropout = _BLOCKS.get(tuple(sorted(positions)), (None, None))
    renamed = {}
    for name, match in matches.items():
        if match:
            moves = dropout is not None and int(match[2]) > dropout
            renamed[f"{match[1]}conv_block.{int(match[2]) - moves}.{match[3]}"] = weights[name]
        else:
            renamed[name] = weights[name]
    return renamed, padding, dropout is not None


def _norm_kind(weights: Weights, path: Path, norm: NormChoice | None, *, unet: bool) -> Norm:
    """How the generator normalises: what its tensors show, or `norm` where they leave it open."""
    affine = any(name.endswith(".weight") and tensor.ndim == 1 for name, tensor in weights.items())
    statistics = any(name.endswith(_STATISTICS) for name in weights)
    biased = (f"{_UNET_LEVEL_2}model.1.bias" if unet else "model.1.bias") in weights
    match norm:
        case "batch" if affine and statistics:
            return "batch"
        case "batch":
            raise CheckpointError(
                f"{path} has no norms with weights and running statistics, as batch norms have; leave out --norm batch."
            )
        case "none" if affine:
            raise CheckpointError(f"{path} has norms with weights, so it normalises; leave out --norm none.")
        case "none" | "instance" if not affine:
            return norm
        case "instance":
            return "affine"
    if affine:
        return "batch" if statistics else "affine"
    if not biased:
        raise CheckpointError(
            f"{path} has convolutions without bias and no norms with weights, so it may normalise or not; choose with "
            f"`cyclegan-edge import {path} --norm instance` or `--norm none`."
        )
    return "instance"


def _resnet_architecture(weights: Weights, norm: Norm, padding: Padding) -> ResnetArchitecture:
    """Read widths and kinds along the layers. Raises KeyError for a missing layer, ValueError for a wrong one."""
    blocks = _indices(weights, r"model\.(\d+)\.conv_block\..*")
    if len(blocks) > MAX_BLOCKS:
        raise ValueError(f"it has {len(blocks)} residual blocks, more than {MAX_BLOCKS}")
    layers = _indices(weights, r"model\.(\d+)\.weight")
    before = [layer for layer in layers if layer < blocks[0]]
    after = [layer for layer in layers if layer > blocks[-1]]
    if (len(before), len(after)) != (3, 3):
        raise ValueError(
            f"it has {len(before)} convolutions before its blocks and {len(after)} after them, not 3 and 3"
        )
    first = _weight(weights, "model.1")
    layer = f"conv_block.{0 if padding == 'zero' else 1}"  # the first convolution of a residual block
    separable = f"model.{blocks[0]}.{layer}.conv.0.weight" in weights
    layer += ".conv.2" if separable else ""
    upsampling: Upsampling = "transposed" if blocks[-1] + 1 in after else "resized"
    if f"model.{blocks[-1] + 1}.filt" in weights:
        upsampling = "blurred"
    side = 1 if upsampling == "transposed" else 0  # where a weight has the channels that come out
    down = [_width(_weight(weights, f"model.{index}").shape[0]) for index in before]
    up = [_width(_weight(weights, f"model.{index}").shape[side]) for index in after[:-1]]
    inputs, outputs = first.shape[1], _weight(weights, f"model.{after[-1]}").shape[0]
    if upsampling == "resized" and 1 in (inputs, outputs):
        raise ValueError(
            "as in PyTorch-GAN, which pads pictures of 1 channel by 1 px where its 7x7 kernels need 3, so that results "
            "are smaller than pictures"
        )
    return ResnetArchitecture(
        inputs=inputs,
        outputs=outputs,
        down=(down[0], down[1], down[2]),
        blocks=tuple(_width(_weight(weights, f"model.{block}.{layer}").shape[0]) for block in blocks),
        up=(up[0], up[1]),
        separable=separable,
        padding=padding,
        blurred_down=f"model.{before[1] + 3}.filt" in weights,
        upsampling=upsampling,
        norm=norm,
    )


def _unet_architecture(weights: Weights, norm: Norm) -> UnetArchitecture:
    """Read widths from the outermost level inwards. Raises KeyError for a missing layer, ValueError for a wrong one."""
    first, level = _weight(weights, "model.model.0"), _UNET_LEVEL_2
    channels = [_width(first.shape[0])]
    while True:
        channels.append(_width(_weight(weights, f"{level}model.1").shape[0]))
        if f"{level}model.3.weight" in weights:  # the innermost level upsamples at once
            break
        if len(channels) > MAX_LEVELS:
            raise ValueError(f"it has more than {MAX_LEVELS} levels")
        level += "model.3."
    outputs = _weight(weights, "model.model.3").shape[1]
    return UnetArchitecture(inputs=first.shape[1], outputs=outputs, channels=tuple(channels), norm=norm)


def _fit(weights: Weights, generator: nn.Module, name: str, path: Path) -> tuple[dict[str, Tensor], int]:
    """The weights that `generator` takes, each of its shape, and how many stale statistics were left out.

    A convolution without bias gets one of zeros. Raises CheckpointError with what does not fit.
    """
    expected = {key: value for key, value in generator.state_dict().items() if value.is_floating_point()}
    fitting = {key: tensor for key, tensor in weights.items() if key in expected or not key.endswith(_STATISTICS)}
    for key, value in expected.items():
        if key.endswith(".bias") and key not in fitting and f"{key.removesuffix('bias')}weight" in fitting:
            fitting[key] = torch.zeros(value.shape)
    strange = [key for key in fitting if key not in expected]
    missing = [key for key in expected if key not in fitting]
    if strange or missing:
        reasons = [f"{_quoted(strange)} should not be there"] if strange else []
        reasons += [f"{_quoted(missing)} should"] if missing else []
        raise CheckpointError(f"{path} looks like a {name}, but {' and '.join(reasons)}; {_KNOWN}.")
    for key, value in expected.items():
        if fitting[key].shape != value.shape:
            raise CheckpointError(
                f"{path} looks like a {name}, but {key!r} has the shape {tuple(fitting[key].shape)}, expected "
                f"{tuple(value.shape)}; {_KNOWN}."
            )
    return fitting, len(weights) - sum(key in weights for key in fitting)


def _describe(architecture: Architecture, *, dropout: bool) -> tuple[str, list[str]]:
    """The name of an architecture, and what distinguishes it."""
    match architecture:
        case CompactArchitecture():
            name, details = "compact generator", [f"{architecture.blocks} blocks", f"{architecture.width} channels"]
        case UnetArchitecture():
            name = "U-Net"
            details = [f"{len(architecture.channels)} levels", f"{architecture.channels[0]} channels"]
        case ResnetArchitecture():
            blurred = architecture.blurred_down or architecture.upsampling == "blurred"
            name = "separable ResNet" if architecture.separable else "CUT ResNet" if blurred else "ResNet"
            widths = " and ".join(map(str, sorted({architecture.down[0], architecture.up[1]})))
            details = [f"{len(architecture.blocks)} block{'s' * (len(architecture.blocks) > 1)}", f"{widths} channels"]
            details += ["anti-aliased downsampling"] if architecture.blurred_down else []
            details += {
                "transposed": [],
                "blurred": ["anti-aliased upsampling"],
                "resized": ["nearest-neighbour upsampling"],
            }[architecture.upsampling]
            details += [f"{architecture.padding} padding"] if architecture.padding != "reflect" else []
    norms = {
        "instance": "instance norm",
        "affine": "instance norm with weights",
        "batch": "batch norm with its running statistics, folded into the convolutions",
        "none": "no norm",
    }
    details.append(norms[architecture.norm])
    if dropout:
        details.append("dropout left out")
    if (architecture.inputs, architecture.outputs) != (3, 3):
        details.append(f"{architecture.inputs} -> {architecture.outputs} colour channels")
    return name, details


def _indices(weights: Weights, pattern: str) -> list[int]:
    """The numbers that `pattern` finds in the names of convolutions' weights, sorted, each once."""
    matches = (re.fullmatch(pattern, name) for name, tensor in weights.items() if tensor.ndim == 4)
    return sorted({int(match[1]) for match in matches if match})


def _weight(weights: Weights, layer: str) -> Tensor:
    return weights[f"{layer}.weight"]


def _width(channels: int) -> int:
    if not 1 <= channels <= MAX_WIDTH:
        raise ValueError(f"a layer has {channels} channels, more than {MAX_WIDTH}")
    return channels


def _network_name(prefix: str) -> str:
    """What a file calls a generator: "networks.netG_A.model.1" -> "netga"."""
    parts = (part for part in prefix.lower().split(".") if part not in _CONTAINERS)
    return re.sub(r"[^a-z0-9]", "", "".join(parts))


def _quoted(names: Iterable[str]) -> str:
    """The first few names, in quotes."""
    few = list(islice(names, _SHOWN + 1))
    return ", ".join(chain(map(repr, few[:_SHOWN]), ["..."] if len(few) > _SHOWN else []))


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return str(error) if isinstance(error, ValueError) else "layers are missing"
