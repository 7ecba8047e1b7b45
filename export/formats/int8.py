"""Eight bits: the float32 graph of a bundle with its convolutions in int8, by static calibration on real pictures.

    x -> QuantizeLinear -> DequantizeLinear -> Conv (weights int8 -> DequantizeLinear) -> the same pair -> norm

ONNX Runtime and OpenVINO read such pairs and multiply in 8 bits where the CPU can. Norms, sums, padding and what lies
around the generator stay float32, and so do the first and the last convolution, where pictures go in and come out.
A transposed convolution has no pair behind it: OpenVINO alone computes it in 8 bits.

Activations are uint8 with one scale per tensor, weights int8 with one scale per output channel. In front of an
InstanceNorm the channels of a convolution may differ in size by a factor of a hundred, and one scale would lose the
small ones; as the norm takes any factor of a channel away again, each is divided by its own deviation, which costs
nothing: the scale of its weights is another.

Source: onnx.ai/onnx/operators, QuantizeLinear and DequantizeLinear 13. Needs no torch.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cyclegan_edge.backends.onnxruntime import open_session
from cyclegan_edge.bounds import BOUNDS, measure, out_of_bounds, pairs_of
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.contract import IMAGE, Picture, Translate
from cyclegan_edge.errors import BundleError, ConfigError, DataError, ExportError, first_line
from cyclegan_edge.export.formats import Target
from cyclegan_edge.export.parity import LayerError, load_pictures, ort_runner
from cyclegan_edge.files import sha256

FILE = "generator-int8.onnx"
MOST_PICTURES = 20  # of the folder, of which every fifth is held out
LEAST_PICTURES = 5

_HELD_OUT = 5
_LARGEST = 512  # px, side of a picture to calibrate on; all activations of one are in memory
_SAMPLES = 1 << 13  # values of an activation that are kept of a picture
_LEAST_DEVIATION = 0.1  # of a channel that is enlarged: the epsilon of its norm must stay small
_LEAST_DB = (
    0.0,
    20.0,
    22.5,
    25.0,
    27.5,
    30.0,
    35.0,
)  # what of a layer is further off stays float32: the first that does
_ASKED = replace(BOUNDS["int8"], least_psnr_db=BOUNDS["int8"].least_psnr_db + 1)  # other pictures differ a little
_BINS = 1 << 13
_FIRST = 4  # pictures that say how the channels differ
_MOST_BIAS = 2**31 - 1

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Range:
    """How an activation becomes uint8: round(value / scale) + zero."""

    scale: np.float32
    zero: int

    def restored(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The values as they come back."""
        whole = np.clip(np.round(values / self.scale) + self.zero, 0, 255)
        return (whole - self.zero) * self.scale


class Seen:
    """A histogram of one activation, which grows with its values; an outlier is never left out."""

    def __init__(self) -> None:
        self._reach = 1.0  # of the bins, to both sides of 0
        self._counts = np.zeros(_BINS)

    def add(self, values: Values) -> None:
        """Count the values of a picture: every one of the tails, of the others some. Raises ExportError."""
        flat = values.reshape(-1)
        if not np.isfinite(flat).all():
            raise ExportError("The float32 graph gives values that are not finite, so it has no range; train it again.")
        while self._reach < np.abs(flat).max():  # two bins become one
            outer = np.zeros(_BINS // 4)
            self._counts = np.concatenate([outer, self._counts.reshape(-1, 2).sum(axis=1), outer])
            self._reach *= 2
        step = flat.size // _SAMPLES | 1  # odd: not the same column of every row
        some = flat[::step]
        tail = 4 * float(some.std())
        self._count(some[np.abs(some) <= tail], step)
        self._count(flat[np.abs(flat) > tail], 1)

    def _count(self, values: Values, weight: int) -> None:
        self._counts += weight * np.histogram(values, _BINS, (-self._reach, self._reach))[0]

    def range(self) -> tuple[Range, float]:
        """From the least to the largest value, and the signal-to-noise ratio that rounding leaves, dB.

        Nothing is clipped: what sticks out is few, but an InstanceNorm spreads its loss over the whole picture.
        """
        used = np.flatnonzero(self._counts)
        centres = ((used + 0.5) / _BINS * 2 - 1) * self._reach
        low, high = min(0.0, *centres), max(0.0, *centres)
        scale = np.float32(max(high - low, 1e-6) / 255)
        found = Range(scale, int(np.clip(np.round(-low / scale), 0, 255)))
        counts = self._counts[used]
        noise = float(counts @ np.square(found.restored(centres) - centres))
        return found, decibels(float(counts @ np.square(centres)), noise)


def load_calibration(folder: Path | None, size: int) -> list[Picture]:
    """Pictures of `folder` for a generator that was trained at `size` px. Raises ConfigError and DataError."""
    if folder is None or not folder.is_dir():
        what = f"{folder} is no folder" if folder else "There are no training pictures of the run here"
        raise ConfigError(f"{what}, but the ranges of int8 are found on pictures; name a folder with --calibrate.")
    pictures = load_pictures(folder, size=min(size, _LARGEST), most=MOST_PICTURES)
    if len(pictures) < LEAST_PICTURES:
        raise DataError(
            f"{folder} holds {len(pictures)} pictures, but the ranges of int8 are found on some and judged on others; "
            f"name a folder with at least {LEAST_PICTURES}, such as the training pictures."
        )
    return pictures


def int8_target(pictures: Sequence[Picture], expected: Translate) -> Target:
    """The int8 graph of a bundle, calibrated on four of five `pictures` and compared with `expected` on the others.

    Of what its layers lose, as much is left in float32 as it takes to stay within the bound.
    """
    known = [picture for number, picture in enumerate(pictures) if number % _HELD_OUT]
    pairs = pairs_of(expected, pictures[::_HELD_OUT])
    layers: list[LayerError] = []

    def make(bundle: Bundle, folder: Path) -> Artifact:
        graph = bundle.artifact("onnx", "fp32")
        if graph is None:
            raise BundleError(f"{bundle.folder} holds no fp32 ONNX graph to quantise; export the model again.")
        model = onnx.load(bundle.path(graph))
        calibrated = calibrate(model, known)
        for least_db in _LEAST_DB:
            made, layers[:] = quantised(model, *calibrated, least_db=least_db)
            if not any(layer.int8 for layer in layers):
                raise ExportError(f"No layer of {bundle.folder} bears 8 bits within the bound, so there is no {FILE}.")
            onnx.save_model(made, folder / FILE)
            parity = measure(ort_runner(folder / FILE), pairs, bound=_ASKED)
            if not out_of_bounds(parity):
                break
        return Artifact(file=FILE, format="onnx", precision="int8", sha256=sha256(folder / FILE))

    return Target(file=FILE, precision="int8", make=make, pairs=pairs, layers=layers)


def inner(model: ModelProto) -> list[NodeProto]:
    """The convolutions that become int8: all with constant weights but the first and the last."""
    constant = {it.name for it in model.graph.initializer}
    every = [it for it in model.graph.node if it.op_type in ("Conv", "ConvTranspose") and it.input[1] in constant]
    grouped = (it for it in every if it.op_type == "ConvTranspose" and _attribute(it, "group", 1) > 1)
    without = {it.output[0] for it in grouped}  # its output channels have no axis of their own in its weights
    return [it for it in every[1:-1] if it.output[0] not in without]


def calibrate(model: ModelProto, pictures: Sequence[Picture]) -> tuple[dict[str, Seen], dict[str, Values]]:
    """What flows into and out of each inner convolution on `pictures`, by the name of the tensor; and what each channel
    of those that an InstanceNorm reads is divided by, (C,).

    Raises EngineError and ExportError when ONNX Runtime does not run the graph.
    """
    nodes = inner(model)
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    normed = [it.output[0] for it in nodes if readers[it.output[0]] == ["InstanceNormalization"]]
    variances: dict[str, list[Values]] = {name: [] for name in normed}
    for found in watched(model, normed, pictures[:_FIRST]) if normed else ():
        for name, values in found.items():
            variances[name].append(values.var(axis=(0, 2, 3)))
    divisors = {
        name: np.maximum(np.sqrt(np.mean(of_each, axis=0)), _LEAST_DEVIATION).astype(np.float32)
        for name, of_each in variances.items()
    }
    names = list(dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0])))
    seen = {name: Seen() for name in names}
    for found in watched(model, names, pictures):
        for name, values in found.items():
            seen[name].add(values / divisors[name][:, np.newaxis, np.newaxis] if name in divisors else values)
    return seen, divisors


def watched(model: ModelProto, names: Sequence[str], pictures: Sequence[Picture]) -> Iterator[dict[str, Values]]:
    """The tensors `names` of the graph for each picture, float32 (1, C, H, W). Raises EngineError and ExportError."""
    open_ = ModelProto()
    open_.CopyFrom(model)
    open_.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    with tempfile.TemporaryDirectory(prefix="cyclegan-edge-") as folder:
        path = Path(folder, "watched.onnx")
        onnx.save_model(open_, path)
        session = open_session(path)
    for picture in pictures:
        try:
            found = session.run(list(names), {IMAGE: picture[np.newaxis]})
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ExportError(f"ONNX Runtime did not run the graph to calibrate it ({first_line(error)}).") from error
        yield dict(zip(names, found, strict=True))


def quantised(
    model: ModelProto, seen: dict[str, Seen], divisors: dict[str, Values], *, least_db: float
) -> tuple[ModelProto, list[LayerError]]:
    """A copy of the float32 graph in which the `inner` convolutions are int8, and what that costs each.

    least_db   a convolution whose input or weights would be further off stays float32, and so does an output
    """
    copied = ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    chosen = {node.output[0] for node in inner(model)}
    weights = {it.name: it for it in graph.initializer}
    layers: list[LayerError] = []
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.output[0] in chosen:
            layer = _Layer(node, weights, seen, divisors.get(node.output[0]), least_db)
            layers.append(layer.error)
            graph.initializer.extend(layer.constants)
            nodes += layer.nodes
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [it for it in graph.initializer if it.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    return copied, layers


class _Layer:
    """The nodes and constants that take the place of one convolution."""

    def __init__(
        self,
        node: NodeProto,
        weights: dict[str, TensorProto],
        seen: dict[str, Seen],
        divisor: Values | None,
        least_db: float,
    ) -> None:
        """divisor    (C,), of its output channels; None: what reads them would see it
        least_db   what would be further off stays float32
        """
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._name = node.output[0]
        taken, entry_db = seen[node.input[0]].range()
        given, result_db = seen[node.output[0]].range()
        axis = int(node.op_type == "ConvTranspose")  # of the output channels
        floats = numpy_helper.to_array(weights[node.input[1]])
        whole, scale = _whole_weights(floats, axis)
        weight_db = decibels(
            float(np.square(floats).sum()), float(np.square(floats - whole * _along(scale, axis)).sum())
        )
        bears = min(entry_db, weight_db) >= least_db
        self.error = LayerError(
            layer=node.input[1].removesuffix(".weight"),
            operator=node.op_type,
            entry_db=entry_db,
            weight_db=weight_db,
            result_db=result_db,
            int8=bears,
        )
        if not bears:
            self.nodes.append(node)
            return
        convolution = NodeProto()
        convolution.CopyFrom(node)
        scale = scale if divisor is None else np.asarray(scale / divisor, np.float32)
        convolution.input[0] = self._pair(node.input[0], f"{self._name}.in", taken)
        convolution.input[1] = self._constant(f"{self._name}.weight", whole, scale, axis)
        if len(node.input) > 2 and node.input[2]:
            bias = numpy_helper.to_array(weights[node.input[2]])
            steps = np.asarray(taken.scale * scale, np.float32)
            whole_bias = np.round((bias if divisor is None else bias / divisor) / steps)
            convolution.input[2] = self._constant(
                f"{self._name}.bias", whole_bias.clip(-_MOST_BIAS, _MOST_BIAS).astype(np.int32), steps, 0
            )
        self.nodes.append(convolution)
        if node.op_type == "Conv" and result_db >= least_db:
            convolution.output[0] = f"{self._name}.whole"
            self._pair(convolution.output[0], f"{self._name}.out", given, node.output[0])

    def _constant(self, name: str, whole: npt.NDArray[Any], scale: Values, axis: int) -> str:
        """The tensor that a constant of integers is dequantised to."""
        self._add(f"{name}.whole", whole)
        self._add(f"{name}.scale", scale)
        self._add(f"{name}.zero", np.zeros_like(scale, whole.dtype))
        inputs = [f"{name}.{part}" for part in ("whole", "scale", "zero")]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.float"], name=name, axis=axis))
        return f"{name}.float"

    def _pair(self, tensor: str, name: str, found: Range, result: str = "") -> str:
        """The tensor that `tensor` becomes when it is quantised and dequantised."""
        self._add(f"{name}.scale", np.asarray(found.scale))
        self._add(f"{name}.zero", np.asarray(found.zero, np.uint8))
        how, result = [f"{name}.scale", f"{name}.zero"], result or f"{name}.float"
        self.nodes.append(helper.make_node("QuantizeLinear", [tensor, *how], [f"{name}.uint8"], name=f"{name}.q"))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}.uint8", *how], [result], name=f"{name}.dq"))
        return result

    def _add(self, name: str, values: npt.NDArray[Any]) -> None:
        self.constants.append(numpy_helper.from_array(values, name))


def decibels(signal: float, noise: float) -> float:
    """How far `noise` is below `signal`, both sums of squares; at most 100."""
    return 100.0 if noise * 1e10 <= signal else 10 * math.log10(max(signal, 1e-30) / noise)


def _whole_weights(weights: Values, axis: int) -> tuple[npt.NDArray[np.int8], Values]:
    """Weights in int8, and (C,) the scale of each output channel along `axis`."""
    others = tuple(it for it in range(weights.ndim) if it != axis)
    scale = np.maximum(np.abs(weights).max(axis=others), 1e-8).astype(np.float32) / np.float32(127)
    return np.round(weights / _along(scale, axis)).clip(-127, 127).astype(np.int8), scale


def _along(values: Values, axis: int) -> Values:
    """(C,) -> a shape that multiplies weights along `axis`."""
    return values.reshape([-1 if it == axis else 1 for it in range(4)])


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((it.i for it in node.attribute if it.name == name), default)
