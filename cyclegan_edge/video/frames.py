"""What travels through the live pipeline, and the three parts that a person can choose: source, translator, sinks.

Pictures are BGR from the camera to the screen; the resize kernels exchange the channels on the way into the model and
on the way out of it, which costs nothing, where a conversion of every frame took half a millisecond at 1080p.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cyclegan_edge.contract import Batch, Size

BgrPicture = npt.NDArray[np.uint8]  # (H, W, 3) blue, green, red: as OpenCV captures, shows and encodes it
Clock = Callable[[], float]  # seconds, monotonic
Notify = Callable[[str], None]  # is given sentences that a person should read while the pipeline runs


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and when it was taken."""

    image: BgrPicture
    captured: float  # s, on the clock of the pipeline (time.monotonic)
    index: int  # 0, 1, 2, ... as the source counts; a gap is a dropped frame
    tag: int | None = None  # by which whoever sent the frame knows its translation again


@dataclass(frozen=True, slots=True)
class Rendered:
    """One translated frame, ready to be shown. Sinks share the pictures and must not write to them."""

    frame: Frame
    translated: BgrPicture  # the size of the frame
    picture: BgrPicture  # what to show: the translation, or both side by side, with numbers on it where wanted
    notice: str | None = None  # why no newer frame comes; `picture` says it, and nothing in it is new


class Source(Protocol):
    """Something that gives frames until it ends.

    `read` blocks until there is a frame and returns None at the end; it raises SourceError when the source breaks.
    `close` is called once, by the thread that reads.
    """

    name: str  # as a person reads it, without passwords
    size: Size
    fps: float  # as the source states it
    live: bool  # frames arrive whether or not anyone reads them
    length: int | None  # frames until the end, where known
    stamp: str  # when a frame counts as captured: "it was read"

    def read(self) -> Frame | None: ...

    def close(self) -> None: ...


class FrameTranslator(Protocol):
    """The three steps of `cyclegan_edge.Translator`, each of which runs in a stage of its own."""

    def prepare(self, image: BgrPicture, *, bgr: bool = False) -> Batch: ...

    def run(self, batch: Batch) -> Batch: ...

    def restore(self, batch: Batch, height: int, width: int, *, bgr: bool = False) -> BgrPicture: ...


class Sink(Protocol):
    """Takes pictures, one after the other, in a thread of its own."""

    name: str  # as a person reads it

    def show(self, rendered: Rendered) -> bool:
        """Show one picture; False when the person wants no more. Raises SinkError."""
