"""Every error this package raises on purpose.

Each message is one sentence: what was wrong, what was expected, what to do.

CycleGanEdgeError
├── ConfigError       a setting has a wrong name, type or value
├── DataError         pictures: a missing or empty folder, a file that is no picture, too few left
├── ImageError        an array or a picture file that cannot be used as an RGB image
├── CheckpointError   a training checkpoint that is missing, damaged or of another layout
├── TrainError        training that cannot go on
├── BundleError       an exported model that is missing, damaged, tampered with or of another version
├── ExportError       a graph or engine that could not be made, or that differs from PyTorch
├── FeatureError      the network behind FID and KID: missing, damaged, or of another shape
├── EngineError       an inference engine that is not installed or does not run here
├── SourceError       a camera, video or stream that cannot be read
└── SinkError         a window, file or folder that cannot be written

`cyclegan_edge.cli.main` catches the base class once and prints the sentence.
"""


class CycleGanEdgeError(Exception):
    """Base of all errors below."""


class ConfigError(CycleGanEdgeError):
    """A setting has a wrong name, type or value."""


class DataError(CycleGanEdgeError):
    """A data folder is missing, empty, or holds too few readable pictures."""


class ImageError(CycleGanEdgeError):
    """An array or a file cannot be used as an RGB image."""


class CheckpointError(CycleGanEdgeError):
    """A training checkpoint is missing, damaged, or of another layout."""


class TrainError(CycleGanEdgeError):
    """Training cannot go on."""


class BundleError(CycleGanEdgeError):
    """An exported model is missing, damaged, tampered with, or of another version."""


class ExportError(CycleGanEdgeError):
    """A graph or engine could not be made, or differs from PyTorch by more than its bound."""


class FeatureError(CycleGanEdgeError):
    """The network that gives FID and KID their features is missing, damaged, or of another shape."""


class EngineError(CycleGanEdgeError):
    """An inference engine is not installed or does not run on this machine."""


class SourceError(CycleGanEdgeError):
    """A camera, video or stream cannot be read."""


class SinkError(CycleGanEdgeError):
    """A window, file or folder cannot be written."""


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough to stand in brackets inside one of our sentences."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
