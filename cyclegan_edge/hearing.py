"""What C libraries print on stderr, where it would say less than this package does in a sentence.

libjpeg and libtiff, inside OpenCV and Pillow, have no other way to tell of damage that they pass over.
"""

from types import TracebackType

from cyclegan_edge import _core


class Hearing:
    """Keeps what C code of this thread prints on stderr inside a `with`; what other threads print is shown as ever."""

    said = ""  # the last line of it, once the `with` has ended

    def __enter__(self) -> None:
        _core.start_hearing()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        lines = [line.strip(" .") for line in _core.stop_hearing().split("\n")]
        self.said = next(filter(None, reversed(lines)), "")
