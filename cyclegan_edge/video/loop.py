"""The loop: a frame comes in, is translated and shown, and what each step took comes out.

It knows no camera, window, thread or clock of its own; it is given a source, a translator, a sink and a clock.
"""

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Protocol

import numpy as np

from cyclegan_edge.contract import Batch, Size
from cyclegan_edge.video.frames import BgrPicture, Clock, Source
from cyclegan_edge.video.sinks import Sink
from cyclegan_edge.video.timings import FrameTiming, Stages

WARM_UP = 3  # runs before the first frame: engines allocate, tune and page in then

View = Callable[[BgrPicture, BgrPicture], BgrPicture]  # (input, translated) -> the picture to show


class FrameTranslator(Protocol):
    """The three steps of `cyclegan_edge.Translator`, which the loop times one by one."""

    def prepare(self, image: BgrPicture, *, bgr: bool = False) -> Batch: ...

    def run(self, batch: Batch) -> Batch: ...

    def restore(self, batch: Batch, height: int, width: int, *, bgr: bool = False) -> BgrPicture: ...


def warm_up(translator: FrameTranslator, size: Size, *, clock: Clock = time.monotonic) -> float:
    """Translate a grey picture of `size` `WARM_UP` times; returns the seconds it took."""
    began = clock()
    for _ in range(WARM_UP):
        batch = translator.run(translator.prepare(np.full((*size, 3), 128, np.uint8), bgr=True))
        translator.restore(batch, *size, bgr=True)
    return clock() - began


def translate_frames(
    source: Source,
    translator: FrameTranslator,
    sink: Sink,
    *,
    view: View = lambda _, translated: translated,
    frames: int | None = None,
    seconds: float | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[FrameTiming]:
    """Translate and show frame after frame, yielding the timing of each once it was shown.

    Ends with the source, when the sink has had enough, after `frames` frames, or with the first frame shown after
    `seconds`. Errors of the source, translator and sink come through unchanged.
    """
    began, newest = clock(), -1
    for _ in count() if frames is None else range(frames):
        asked = clock()
        frame = source.read()
        if frame is None:
            return
        read = clock()
        batch = translator.prepare(frame.image, bgr=True)
        prepared = clock()
        batch = translator.run(batch)
        ran = clock()
        translated = translator.restore(batch, frame.image.shape[0], frame.image.shape[1], bgr=True)
        restored = clock()
        wanted = sink.show(view(frame.image, translated), frame)
        shown = clock()
        stages = Stages(
            wait=read - asked,
            prepare=prepared - read,
            run=ran - prepared,
            restore=restored - ran,
            show=shown - restored,
            age=shown - frame.captured,
        )
        yield FrameTiming(shown, frame.index - newest - 1, stages)
        newest = frame.index
        if not wanted or (seconds is not None and shown - began >= seconds):
            return
