"""CycleGAN from a folder of pictures to a live camera on a small device.

    from cyclegan_edge import Translator

    translator = Translator.load("models/scenes")
    winter = translator(summer)  # uint8 (H, W, 3) RGB in, the same shape out

Every error is a CycleGanEdgeError whose text is one sentence. Nothing here imports torch, and what needs OpenCV or the
extension is imported when it is first used: `cyclegan-edge doctor` must also run where one of them does not load.
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from cyclegan_edge.bundle import Bundle, read_bundle
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    CycleGanEdgeError,
    DataError,
    EngineError,
    ExportError,
    ImageError,
    SinkError,
    SourceError,
)

if TYPE_CHECKING:
    from cyclegan_edge.backends.base import Backend, EngineName
    from cyclegan_edge.geometry import Fit
    from cyclegan_edge.images import list_images, read_image, write_image
    from cyclegan_edge.translator import Translator

# Nothing is sent anywhere. ONNX Runtime from 1.29 on and openvino send statistics once they are imported; a user's own
# choice for ONNX Runtime is kept.
for _name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):
    os.environ.setdefault(_name, "1")
cast("dict[str, Any]", sys.modules).setdefault("openvino_telemetry", None)

__all__ = [
    "Backend",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "ConfigError",
    "CycleGanEdgeError",
    "DataError",
    "EngineError",
    "EngineName",
    "ExportError",
    "Fit",
    "ImageError",
    "Precision",
    "SinkError",
    "SourceError",
    "Translator",
    "__version__",
    "list_images",
    "read_bundle",
    "read_image",
    "write_image",
]

_HOME = {
    "Backend": "cyclegan_edge.backends.base",
    "EngineName": "cyclegan_edge.backends.base",
    "Fit": "cyclegan_edge.geometry",
    "Translator": "cyclegan_edge.translator",
    "list_images": "cyclegan_edge.images",
    "read_image": "cyclegan_edge.images",
    "write_image": "cyclegan_edge.images",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name == "__version__":
        return version("cyclegan-edge")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Everything public, so that help() shows it."""
    return sorted({*globals(), *__all__})
