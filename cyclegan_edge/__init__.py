"""CycleGAN from a folder of pictures to a live camera on a small device.

    from cyclegan_edge import Translator

    translator = Translator.load("models/scenes")
    winter = translator(summer)  # uint8 (H, W, 3) RGB in, the same shape out

Every error is a CycleGanEdgeError whose text is one sentence. Nothing here imports torch.
"""

from cyclegan_edge.backends import Backend, EngineName
from cyclegan_edge.bundle import Bundle, Precision, read_bundle
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
from cyclegan_edge.images import list_images, read_image, write_image
from cyclegan_edge.translator import Fit, Translator

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
    "list_images",
    "read_bundle",
    "read_image",
    "write_image",
]
