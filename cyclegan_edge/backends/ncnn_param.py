"""What may be given to ncnn: its own readers trust every number in a file and crash on a wrong one.

    7767517                                                       a constant
    29 30                                                         layers, blobs
    Convolution  conv_7  1 1  4 5  0=8 1=3 11=3 ...               kind, name, inputs, outputs, their names, numbers

A graph passes when it is one that `cyclegan_edge.export.formats.ncnn` could have written: kinds of layers that occur in
generators, numbers within their ranges, every blob made before it is used and used once, channels that fit, and as many
weights as the .bin file holds. `check_size` does the same arithmetic for a picture before ncnn gets it.

Source: ncnn 1.0, docs/developer-guide/param-and-model-file-structure.md and operators.md; src/modelbin.cpp.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cyclegan_edge.errors import EngineError

Shape = tuple[int, int, int]  # C, H, W

_MAGIC = "7767517"
_MAX_TEXT = 1 << 20  # bytes
_MAX_CHANNELS = 1 << 13
_MAX_WIDENING = 1 << 9  # times the pixels of a picture that one blob may have values
_NAME = re.compile(r"[\w.]{1,100}", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,9}", re.ASCII)
_REAL = re.compile(r"-?\d{1,9}(\.\d{1,9})?(e[+-]?\d{1,2})?", re.ASCII)
_HALF = (0x01306B47).to_bytes(4, "little")  # stands before weights of 16 bits, zeros before those of 32

_ARRAYS = {  # by their number: how they are written, their length first
    -23300: re.compile("3,1,1,-233"),
    -23301: re.compile(f"2,{_REAL.pattern},{_REAL.pattern}", re.ASCII),
    -23310: re.compile(f"1,{_REAL.pattern}", re.ASCII),
}

_WINDOW: dict[int, tuple[float, float]] = {  # of convolutions
    0: (1, _MAX_CHANNELS),  # output channels
    **dict.fromkeys((1, 11), (1, 31)),  # kernel: width, height
    **dict.fromkeys((2, 12), (1, 8)),  # dilation
    **dict.fromkeys((3, 13), (1, 8)),  # stride
    **dict.fromkeys((4, 14), (0, 31)),  # padding
    5: (0, 1),  # has a bias
    6: (1, 1 << 29),  # weights
}
_ACTIVATION, _SLOPE = 9, -23310  # 0: none, 1: ReLU, 2: leaky ReLU with this slope
_NEEDED: dict[str, dict[int, tuple[float, float]]] = {  # kind: number: from, to; whole numbers where those are
    "Input": {},
    "Split": {},
    "TanH": {},
    "ReLU": {},
    "Padding": {**dict.fromkeys(range(4), (0, 4096)), 4: (0, 2)},  # top, bottom, left, right; how
    "InstanceNorm": {0: (1, _MAX_CHANNELS), 1: (0.0, 1.0), 2: (0, 1)},  # channels, epsilon, has a scale and a shift
    "BinaryOp": {0: (0, 0)},  # addition
    "Concat": {0: (0, 0)},  # of channels
    "PixelShuffle": {0: (2, 2)},  # times the height and the width
    "Slice": {1: (0, 0), -23300: (0.0, 0.0)},  # channels, each by itself
    "Eltwise": {0: (1, 1), -23301: (0.0, 0.0)},  # a weighted sum
    "Interp": {0: (1, 3), 1: (1.0, 8.0), 2: (1.0, 8.0)},  # how, times the height, times the width
    "Convolution": _WINDOW,
    "ConvolutionDepthWise": {**_WINDOW, 7: (1, _MAX_CHANNELS)},  # groups
    "Deconvolution": {**_WINDOW, 18: (0, 7), 19: (0, 7)},  # more columns, more rows
    "DeconvolutionDepthWise": {**_WINDOW, 7: (1, _MAX_CHANNELS), 18: (0, 7), 19: (0, 7)},
}
_ALLOWED: dict[str, dict[int, tuple[float, float]]] = {  # what may be there too
    "ReLU": {0: (0.0, 1.0)},  # slope
    "Padding": {5: (-1e6, 1e6), 6: (0, 0)},  # with which value; one per channel
    "PixelShuffle": {1: (0, 0)},  # in which order
    "Interp": {6: (0, 0)},  # whether corners are aligned
    "Convolution": {7: (1, 1), _ACTIVATION: (0, 2), _SLOPE: (0.0, 0.0)},
    "ConvolutionDepthWise": {_ACTIVATION: (0, 2), _SLOPE: (0.0, 0.0)},
    "Deconvolution": {7: (1, 1), _ACTIVATION: (0, 2), _SLOPE: (0.0, 0.0)},
    "DeconvolutionDepthWise": {_ACTIVATION: (0, 2), _SLOPE: (0.0, 0.0)},
}


class _Layer(NamedTuple):
    line: int
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[int, float]

    def number(self, key: int, default: int = 0) -> int:
        return int(self.numbers.get(key, default))


class _GraphError(Exception):
    """Says what is wrong with a graph, without its end."""


@dataclass(frozen=True, slots=True)
class NcnnGraph:
    """A graph that was read and may be given to ncnn."""

    path: Path
    layers: tuple[_Layer, ...]

    def check_size(self, height: int, width: int) -> None:
        """Raise EngineError unless a picture of this size fits through every layer."""
        try:
            _shapes(self.layers, (3, height, width))
        except _GraphError as error:
            raise EngineError(f"{self.path} does not take a picture of {width}x{height} px: {error}.") from error


def read_graph(param: Path, weights: Path, *, side: int) -> NcnnGraph:
    """Read the graph in `param`, and compare it with the `weights`.

    side   px, of a picture that it takes

    Raises EngineError for what this package would not have written.
    """
    try:
        if param.stat().st_size > _MAX_TEXT:
            raise _GraphError(f"it has more than {_MAX_TEXT} bytes")
        layers = _parse(param.read_bytes().decode("ascii", "replace").splitlines())
        _shapes(layers, (3, side, side))
        _check_weights(layers, weights)
    except _GraphError as error:
        raise EngineError(f"{param} is not an ncnn graph of this package: {error}; export the model again.") from error
    return NcnnGraph(param, layers)


def _parse(lines: Sequence[str]) -> tuple[_Layer, ...]:
    if len(lines) < 3 or lines[0].strip() != _MAGIC:
        raise _GraphError(f"it does not begin with {_MAGIC}")
    layers = tuple(_layer(number, line.split()) for number, line in enumerate(lines[2:], start=3))
    made = [blob for layer in layers for blob in layer.outputs]
    if lines[1].split() != [str(len(layers)), str(len(made))]:
        raise _GraphError(f"line 2 is {lines[1]!r:.40}, expected {len(layers)} layers and {len(made)} blobs")
    waiting: set[str] = set()
    for layer in layers:
        if not {*layer.inputs} <= waiting or len({*layer.inputs}) != len(layer.inputs):
            raise _GraphError(f"line {layer.line} takes a blob that is not there, or is used up")
        waiting -= {*layer.inputs}
        waiting |= {*layer.outputs}
    if len({*made}) != len(made) or layers[0].outputs != ("in0",) or waiting != {"out0"}:
        raise _GraphError("its blobs do not lead from in0 to out0, each made once and used once")
    if [layer.kind for layer in layers].count("Input") != 1:
        raise _GraphError("it has not one input")
    return layers


def _layer(line: int, words: Sequence[str]) -> _Layer:
    kind = words[0] if words else ""
    if kind not in _NEEDED:
        raise _GraphError(f"line {line} is a layer {kind!r:.40}, which no generator has")
    if len(words) < 4 or not all(re.fullmatch(r"\d{1,2}", word) for word in words[2:4]):
        raise _GraphError(f"line {line} does not say how many blobs it takes and makes")
    taken, made = int(words[2]), int(words[3])
    blobs = words[4 : 4 + taken + made]
    usual = {"Input": (0, 1), "BinaryOp": (2, 1), "Concat": (max(taken, 2), 1), "Split": (1, max(made, 2))}
    usual |= {"Slice": (1, 3), "Eltwise": (2, 1)}
    if (taken, made) != usual.get(kind, (1, 1)) or len(blobs) != taken + made:
        raise _GraphError(f"line {line} is a {kind} from {taken} to {made} blobs")
    if not all(_NAME.fullmatch(name) for name in (words[1], *blobs)):
        raise _GraphError(f"line {line} has a name that is not one word")
    numbers = dict(_number(line, kind, word) for word in words[4 + taken + made :])
    if missing := _NEEDED[kind].keys() - numbers.keys():
        raise _GraphError(f"line {line} is a {kind} without the number {min(missing)}")
    if numbers.get(_ACTIVATION) == 2 and _SLOPE not in numbers:
        raise _GraphError(f"line {line} is a {kind} whose leaky ReLU has no slope")
    return _Layer(line, kind, tuple(blobs[:taken]), tuple(blobs[taken:]), numbers)


def _number(line: int, kind: str, word: str) -> tuple[int, float]:
    text, _, value = word.partition("=")
    key = int(text) if _WHOLE.fullmatch(text) else -1
    if key in _ARRAYS and _ARRAYS[key].fullmatch(value):
        value = "0.0"  # nothing depends on what is in it
    low, high = {**_NEEDED[kind], **_ALLOWED.get(kind, {})}.get(key, (1, 0))
    form = _WHOLE if isinstance(low, int) else _REAL  # ncnn takes the bits of one for the other
    if not form.fullmatch(value) or not low <= float(value) <= high:
        raise _GraphError(f"line {line} is a {kind} with {word!r:.40}")
    return key, float(value)


def _shapes(layers: Sequence[_Layer], picture: Shape) -> dict[str, Shape]:
    """The shape of every blob."""
    shapes: dict[str, Shape] = {}
    for layer in layers:
        shape = _shape(layer, [shapes[name] for name in layer.inputs]) if layer.inputs else picture
        if min(shape) < 1 or math.prod(shape) > _MAX_WIDENING * math.prod(picture[1:]):
            raise _GraphError(f"line {layer.line} makes a blob of shape {shape}")
        shapes |= dict.fromkeys(layer.outputs, shape)
    if shapes["out0"] != picture:
        raise _GraphError(f"it makes {shapes['out0']} of {picture}")
    return shapes


def _shape(layer: _Layer, given: Sequence[Shape]) -> Shape:
    channels, height, width = given[0]
    number = layer.number
    match layer.kind:
        case "Padding":
            if number(4) == 2 and (max(number(0), number(1)) >= height or max(number(2), number(3)) >= width):
                raise _GraphError(f"line {layer.line} mirrors more than there is of {height} rows and {width} columns")
            return channels, height + number(0) + number(1), width + number(2) + number(3)
        case "InstanceNorm" if number(0) != channels:
            raise _GraphError(f"line {layer.line} expects {number(0)} channels and gets {channels}")
        case "Slice":
            if channels != 3:
                raise _GraphError(f"line {layer.line} takes {channels} channels for 3")
            return 1, height, width
        case "BinaryOp" | "Eltwise" if given[0] != given[1]:
            raise _GraphError(f"line {layer.line} adds {given[0]} and {given[1]}")
        case "Concat":
            if any(shape[1:] != (height, width) for shape in given):
                raise _GraphError(f"line {layer.line} joins {given}")
            return sum(shape[0] for shape in given), height, width
        case "PixelShuffle":
            if channels % 4:
                raise _GraphError(f"line {layer.line} shuffles {channels} channels in fours")
            return channels // 4, 2 * height, 2 * width
        case "Interp":
            return channels, int(height * layer.numbers[1]), int(width * layer.numbers[2])
        case "Convolution" | "ConvolutionDepthWise":
            rows = (height + 2 * number(14) - number(12) * (number(11) - 1) - 1) // number(13) + 1
            columns = (width + 2 * number(4) - number(2) * (number(1) - 1) - 1) // number(3) + 1
            return _convolved(layer, channels), rows, columns
        case "Deconvolution" | "DeconvolutionDepthWise":
            rows = (height - 1) * number(13) + number(12) * (number(11) - 1) + 1 + number(19) - 2 * number(14)
            columns = (width - 1) * number(3) + number(2) * (number(1) - 1) + 1 + number(18) - 2 * number(4)
            return _convolved(layer, channels), rows, columns
    return given[0]


def _convolved(layer: _Layer, channels: int) -> int:
    """The channels that a convolution makes of `channels`, once its weights are as many as that takes."""
    made, groups = layer.number(0), layer.number(7, 1)
    weights = made * (channels // groups) * layer.number(1) * layer.number(11)
    if made % groups or channels % groups or weights != layer.number(6):
        raise _GraphError(f"line {layer.line} has {layer.number(6)} weights for {channels} to {made} channels")
    return made


def _check_weights(layers: Sequence[_Layer], path: Path) -> None:
    """Compare the length of the file with what the layers read, each from where the one before stopped."""
    length, position = path.stat().st_size, 0
    with path.open("rb") as file:
        for layer in layers:
            if layer.kind == "InstanceNorm":
                position += 2 * 4 * layer.number(0) * layer.number(2)
            elif _WINDOW.keys() <= _NEEDED[layer.kind].keys():
                file.seek(position)
                tag = file.read(4)
                if tag not in (_HALF, bytes(4)):
                    raise _GraphError(f"{path.name} has no weights of 16 or 32 bits where line {layer.line} reads them")
                nbytes = layer.number(6) * (2 if tag == _HALF else 4)
                position += 4 + (nbytes + 3) // 4 * 4 + 4 * layer.number(0) * layer.number(5)
    if position != length:
        raise _GraphError(f"{path.name} has {length} bytes, expected {position}")
