"""Time as a bar code in pictures: what was captured when can be read back behind a sink, a stream or a page.

pictures   (H, W, 3) uint8; the top quarter holds 32 bars, white for 1, the highest bit left: ms of wall-clock time
"""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import numpy.typing as npt

BITS = 32


def now_ms() -> int:
    """Wall-clock time in ms, of which the lowest 32 bits are written."""
    return time.time_ns() // 1_000_000


def write(picture: npt.NDArray[np.uint8], milliseconds: int) -> None:
    """Draw the bars into the top quarter of `picture`."""
    bits = [(milliseconds >> bit) & 1 for bit in reversed(range(BITS))]
    row = np.repeat(np.array(bits, np.uint8) * 255, -(-picture.shape[1] // BITS))[: picture.shape[1]]
    picture[: picture.shape[0] // 4] = row[np.newaxis, :, np.newaxis]


def read(picture: npt.NDArray[np.uint8]) -> int:
    """The 32 bits in `picture`, which may have been scaled, compressed and translated."""
    width = -(-picture.shape[1] // BITS)
    middle = picture[picture.shape[0] // 8].mean(axis=-1)
    bits = [middle[min(len(middle) - 1, round((index + 0.5) * width))] > 127 for index in range(BITS)]
    return int("".join("1" if bit else "0" for bit in bits), 2)


def age_ms(picture: npt.NDArray[np.uint8]) -> int:
    """How old `picture` is now."""
    return (now_ms() - read(picture)) % (1 << BITS)


@contextmanager
def mjpeg_server(picture: npt.NDArray[np.uint8], fps: float) -> Iterator[str]:
    """Motion JPEG over HTTP of `picture` with the time of each frame; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            mine, due = picture.copy(), time.monotonic()
            try:
                while True:
                    write(mine, now_ms())
                    data = cv2.imencode(".jpg", mine, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
                    head = b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                    self.wfile.write(head + data + b"\r\n")
                    due += 1 / fps
                    time.sleep(max(0.0, due - time.monotonic()))
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/live"
    server.shutdown()
    server.server_close()
