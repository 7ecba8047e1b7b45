"""What every engine is: a `Backend`, a name, a file format that it reads, and the command that installs it."""

from collections.abc import Iterable, Iterator
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from cyclegan_edge.bundle import FormatName
from cyclegan_edge.contract import Batch
from cyclegan_edge.errors import EngineError

EngineName = Literal[
    "auto", "tensorrt", "tensorrt-rtx", "onnx-tensorrt", "onnx-cuda", "ncnn", "openvino", "onnxruntime"
]

_GPU_BUILD = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
INSTALL: dict[EngineName, str] = {  # the command that adds the engine; TensorRT says its own
    "onnx-tensorrt": _GPU_BUILD,
    "onnx-cuda": _GPU_BUILD,
    "ncnn": "pip install 'cyclegan-edge[ncnn]'",
    "openvino": "pip install 'cyclegan-edge[openvino]'",
    "onnxruntime": "pip install onnxruntime",
}


class Backend(Protocol):
    """One loaded generator.

    `run` takes and returns uint8 (N, H, W, 3) RGB arrays of the same shape; H and W are multiples of the manifest's.
    It raises EngineError for a shape that the engine was not built for. Several threads may call it at once.
    """

    name: str  # "onnxruntime 1.32.0 fp32"
    device: str  # where it runs: "CPU, 2 threads", "NVIDIA Orin"

    def run(self, images: Batch) -> Batch: ...


@runtime_checkable
class Pipelined(Backend, Protocol):
    """A backend that is faster with several batches in flight than with one after the other."""

    def run_many(self, batches: Iterable[Batch]) -> Iterator[Batch]: ...


@runtime_checkable
class Closable(Backend, Protocol):
    """A backend that holds memory which is not freed when Python is done with it."""

    def close(self) -> None: ...


def run_many(backend: Backend, batches: Iterable[Batch]) -> Iterator[Batch]:
    """What `backend.run` returns for each of `batches`, in order, several of them at once where the backend can.

    It may read a few batches ahead. An error of a batch comes after the results of those before it.
    """
    return backend.run_many(batches) if isinstance(backend, Pipelined) else map(backend.run, batches)


def as_batch(made: object, images: Batch, engine: str) -> Batch:
    """What `engine` made of `images`. Raises EngineError when it is not a batch of the same shape."""
    translated = np.asarray(made)
    if translated.shape != images.shape or translated.dtype != np.uint8:
        raise EngineError(
            f"{engine} made {translated.dtype} {translated.shape} of uint8 {images.shape}, expected the same shape and "
            f"type; export the model again."
        )
    return translated


def format_of(engine: EngineName) -> FormatName:
    """What `engine` reads."""
    match engine:
        case "tensorrt" | "tensorrt-rtx" | "ncnn":
            return engine
    return "onnx"
