"""A window on this machine's screen. (Files are in `recorder`, the page in a browser is `cyclegan_edge.web`.)

Raises SinkError with what is missing and what to do.
"""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

import cv2

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SinkError
from cyclegan_edge.video.frames import Rendered

_QUIT_KEYS = (ord("q"), ord("Q"), 27)  # 27: Esc
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1)"
_PROBE_TIMEOUT = 20  # s; a small device takes a few to import cv2
_SHARE = 0.9  # of the screen that a window fills at most
_SCREEN: Size = (768, 1366)  # where it cannot be asked: what every desktop has


@contextlib.contextmanager
def open_window(title: str, size: Size, keys: Mapping[str, Callable[[], object]]) -> Iterator["Window"]:
    """A window of `size`, or smaller where the screen is; q, Esc or its close button end the show.

    `keys` are further letters and what they do.
    """
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # Qt misses fonts that no window here needs
    screen = screen_size()
    scale = min(1.0, _SHARE * screen[0] / size[0], _SHARE * screen[1] / size[1])
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(title, round(scale * size[1]), round(scale * size[0]))
    try:
        yield Window(title, keys)
    finally:
        cv2.destroyAllWindows()


def screen_size() -> Size:
    """Height and width of the screen, as X tells them."""
    try:
        x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        display = ctypes.c_void_p(x11.XOpenDisplay(None))
    except (OSError, AttributeError):
        return _SCREEN
    if not display:
        return _SCREEN
    size = x11.XDisplayHeight(display, 0), x11.XDisplayWidth(display, 0)
    x11.XCloseDisplay(display)
    return size


def check_display() -> None:
    """Raise SinkError when this machine cannot open a window.

    A window is tried in a child process: where there is no usable display, Qt ends the whole process.
    """
    instead = "use --headless, --web or --out FILE"
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise SinkError(
            f"This OpenCV ({cv2.__version__}) was built without windows; install opencv-python instead of "
            f"opencv-python-headless, or {instead}."
        )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SinkError(f"There is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set); {instead}.")
    with contextlib.suppress(subprocess.SubprocessError):
        subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=_PROBE_TIMEOUT, check=True)
        return
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    raise SinkError(
        f"The display {display} does not let OpenCV open a window; start from a desktop session (with ssh: `ssh -X`), "
        f"or {instead}."
    )


class Window:
    """The sink, made by `open_window`; lives in the main thread."""

    name = "the window"

    def __init__(self, title: str, keys: Mapping[str, Callable[[], object]]) -> None:
        self._title = title
        self._keys = {ord(letter): action for letter, action in keys.items()}

    def show(self, rendered: Rendered) -> bool:
        cv2.imshow(self._title, rendered.picture)
        return self.idle()

    def idle(self) -> bool:
        key = cv2.waitKey(1) & 0xFF
        if key in _QUIT_KEYS:
            return False
        if action := self._keys.get(key):
            action()
        return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
