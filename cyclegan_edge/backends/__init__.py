"""Engines that run an exported generator, behind one protocol.

`open_backend` opens exactly the engine it is asked for, or refuses; `auto` takes the first of `AUTO_ORDER` that the
bundle holds and this machine runs, and the backend's `name` and `device` say which one that was.
"""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from cyclegan_edge.bundle import Bundle
from cyclegan_edge.errors import ConfigError, EngineError

EngineName = Literal["auto", "tensorrt", "onnxruntime", "openvino"]
AUTO_ORDER: tuple[Literal["tensorrt", "onnxruntime"], ...] = ("tensorrt", "onnxruntime")


class Backend(Protocol):
    """One loaded generator.

    `run` takes and gives uint8 (N, H, W, 3) RGB arrays of the same shape; H and W are multiples of 4.
    It raises EngineError for a shape that the engine was not built for.
    """

    name: str  # "onnxruntime 1.32.0 fp32"
    device: str  # where it runs: "CPU, 2 threads", "NVIDIA Orin"

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]: ...
