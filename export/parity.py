"""The parity gate: a file is good only when it gives float32 PyTorch's picture on real pictures.

The order of things: pairs of a picture and PyTorch's translation; the file opened as a device would open it; both
compared; a verdict. Needs no torch, so that an engine can be compared on the device that it was built on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import EngineName, as_batch
from cyclegan_edge.bounds import Pair, measure, out_of_bounds, pairs_of, reference_pairs
from cyclegan_edge.bundle import Artifact, Bound, Bundle, FormatName, Parity
from cyclegan_edge.contract import TENSORS, Batch, Interface, Picture, Precision, Translate, to_levels, to_signal
from cyclegan_edge.errors import EngineError, ExportError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.scenes import render

_ENGINES: dict[FormatName, EngineName] = {
    "onnx": "onnxruntime",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
    "ncnn": "ncnn",
}
_RENDERED = 8  # landscapes to compare on, where no pictures of the run are there

Outcome = Literal["good", "failed", "skipped"]  # skipped: it cannot be run here


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerError:
    """What eight bits cost a layer, as signal-to-noise ratios in dB: small is bad."""

    layer: str
    operator: str
    entry_db: float  # of what flows in
    weight_db: float
    result_db: float  # of what flows out
    int8: bool  # whether it is computed in eight bits, or was left as it was


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What came of one file."""

    file: str
    outcome: Outcome
    reason: str = ""  # a sentence, unless it is good
    engine: str = ""  # what ran it: "onnxruntime 1.32.0 fp32"
    parity: Parity | None = None  # None: nothing was compared
    bytes: int = 0  # of all its files together
    layers: tuple[LayerError, ...] = ()  # of a file that is too far off: where that may come from


OnVerdict = Callable[[Verdict], None]  # called once for each file; what it raises ends the export


def raise_failed(verdict: Verdict) -> None:
    """The strict `OnVerdict`. Raises ExportError with the reason when the file failed."""
    if verdict.outcome == "failed":
        raise ExportError(verdict.reason)


def load_pictures(folder: Path, *, size: int, most: int) -> list[Picture]:
    """Up to `most` pictures of `folder`, spread over it by name, resized to (size, size, 3) uint8 RGB."""
    return [resize(read_image(path), (size, size)) for path in list_images(folder, most=most)]


def render_pictures(size: int, count: int = _RENDERED) -> list[Picture]:
    """Rendered landscapes of (size, size, 3) uint8 RGB, the same every time."""
    return [render(seed, "summer", size=(size, size)) for seed in range(count)]


def fallback_pairs(bundle: Bundle) -> list[Pair]:
    """What to compare on when there is only the bundle: the pictures in it with PyTorch's translations, and rendered
    landscapes with those of its float32 graph. Raises BundleError when a file is damaged or missing."""
    backend, _ = open_backend(bundle, engine="onnxruntime", precision="fp32")
    return [*reference_pairs(bundle), *pairs_of(backend.run, render_pictures(bundle.manifest.size))]


def open_artifact(
    bundle: Bundle, artifact: Artifact, *, engine: EngineName | None = None, precision: Precision | None = None
) -> tuple[str, Translate]:
    """What runs the artifact ("onnxruntime 1.32.0 fp32"), and the function of RGB pictures that it is then.

    engine      None: the one that is made for its format

    Raises EngineError when that engine does not run here or refuses the file, BundleError when a file is damaged.
    """
    precision = precision or artifact.precision
    if artifact.for_other_programs:
        return f"onnxruntime {precision}", ort_runner(bundle.path(artifact), artifact.interface)
    alone = Bundle(bundle.folder, replace(bundle.manifest, artifacts=(artifact,)))  # no other can be opened instead
    backend, _ = open_backend(alone, engine=engine or _ENGINES[artifact.format], precision=precision)
    return backend.name, backend.run


def ort_runner(path: Path, interface: Interface = "rgb") -> Translate:
    """The graph `path`, whatever it takes and gives, as a function of RGB pictures.

    Raises EngineError when ONNX Runtime refuses the graph.
    """
    from cyclegan_edge.backends.onnxruntime import open_session, run_session

    session = open_session(path)
    entry, result = TENSORS[interface]

    def translate(images: Batch) -> Batch:
        match interface:
            case "rgb":
                return as_batch(run_session(session, result, {entry: images}), images, path.name)
            case "bgr":
                made = run_session(session, result, {entry: np.ascontiguousarray(images[..., ::-1])})
                return np.ascontiguousarray(as_batch(made, images, path.name)[..., ::-1])
            case "float":
                signal = np.ascontiguousarray(to_signal(images.astype(np.float32)).transpose(0, 3, 1, 2))
                made = np.asarray(run_session(session, result, {entry: signal}))
                if made.shape != signal.shape or not np.isfinite(made).all():
                    raise EngineError(f"{path.name} made {made.shape} of {signal.shape}, or what is not finite.")
                return np.ascontiguousarray(to_levels(made).transpose(0, 2, 3, 1).astype(np.uint8))

    return translate


def compare(file: str, found: Translate, pairs: Sequence[Pair], *, bound: Bound, engine: str = "") -> Verdict:
    """Good when `found`, which runs `file`, stays within `bound` of the pairs, else failed.

    Raises what `measure` and `found` raise.
    """
    parity = measure(found, pairs, bound=bound)
    wrong = out_of_bounds(parity)
    reason = f"{file} {', and '.join(wrong)} ({parity.images} pictures)" if wrong else ""
    return Verdict(file=file, outcome="failed" if wrong else "good", reason=reason, engine=engine, parity=parity)
