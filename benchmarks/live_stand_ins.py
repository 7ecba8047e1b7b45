"""What benchmarks/live.py measures with: engines that sleep, pictures from memory, sinks that note what they see."""

import time
from typing import NamedTuple

import glass

from cyclegan_edge.contract import Batch
from cyclegan_edge.video.frames import Frame, Rendered
from cyclegan_edge.video.paced import Paced
from cyclegan_edge.video.synthetic import SyntheticSource

SIZE_720P = (720, 1280)


class Row(NamedTuple):
    """One figure of the report."""

    what: str
    wanted: str
    measured: str
    met: bool | None = None  # None: no bound


class StandIn:
    """An engine that sleeps for a time and gives back its input."""

    device = "nowhere"

    def __init__(self, milliseconds: float) -> None:
        self.name = f"stand-in of {milliseconds:g} ms"
        self._seconds = milliseconds / 1000

    def run(self, images: Batch) -> Batch:
        time.sleep(self._seconds)
        return images.copy()


class Cycling:
    """A few rendered pictures again and again, so that rendering costs nothing."""

    live = False
    length: int | None = None
    stamp = "it was taken from memory"

    def __init__(self, fps: float, *, size: tuple[int, int] = SIZE_720P) -> None:
        synthetic = SyntheticSource(size=size, fps=2, clock=time.monotonic)
        self._pictures = [synthetic.read().image for _ in range(8)]
        self.name, self.size, self.fps, self._index = "memory", size, fps, -1

    def read(self) -> Frame:
        self._index += 1
        return Frame(self._pictures[self._index % len(self._pictures)], time.monotonic(), self._index)

    def close(self) -> None:
        pass


class Barred(Paced):
    """A camera of pictures with the time at which each is taken."""

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            return None
        image = frame.image.copy()
        glass.write(image, glass.now_ms())
        return Frame(image, time.monotonic(), frame.index)


class Collected:
    """A sink that notes what it is shown and when."""

    name = "collected"

    def __init__(self, *, read: bool = False) -> None:
        self.indices: list[int] = []
        self.ages: list[float] = []  # ms, as reported
        self.true_ages: list[float] = []  # ms, read from the bars
        self._read = read

    def show(self, rendered: Rendered) -> bool:
        self.indices.append(rendered.frame.index)
        self.ages.append(1000 * (time.monotonic() - rendered.frame.captured))
        if self._read:
            self.true_ages.append(glass.age_ms(rendered.translated))
        return True


class Sleepy:
    """A recorder on a disk that takes 200 ms a picture."""

    name = "a slow disk"

    def show(self, rendered: Rendered) -> bool:
        time.sleep(0.2)
        return True
