"""Streams from real servers on the loopback address: RTSP from GStreamer's own server, motion JPEG over HTTP."""

import functools
import http.server
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from cyclegan_edge.errors import SourceError
from cyclegan_edge.video import reconnect, sources
from cyclegan_edge.video.frames import Frame, Rendered, Source
from cyclegan_edge.video.reconnect import Reconnecting
from cyclegan_edge.video.recorder import open_video
from cyclegan_edge.video.sources import open_source, without_password

pytest.importorskip("av", reason="the extra [video] is not installed")

SYSTEM_PYTHON = Path("/usr/bin/python3")
NEEDS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class RtspServer:
    """GStreamer's server in a process of its own, which may be killed and started again at the same port."""

    def __init__(self, *login: str) -> None:
        self.port, self._login = free_port(), login
        self.url = f"rtsp://127.0.0.1:{self.port}/live"
        self.start()

    def start(self) -> None:
        script = Path(__file__).parent / "data" / "rtsp_server.py"
        command = [str(SYSTEM_PYTHON), str(script), str(self.port), *self._login]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def has_server() -> None:
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", NEEDS], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0 and python3-gi")


@pytest.fixture
def rtsp(has_server: None) -> Iterator[RtspServer]:
    server = RtspServer()
    yield server
    server.kill()


class Mjpeg(http.server.BaseHTTPRequestHandler):
    """Motion JPEG, a new level of grey every 40 ms; /short ends after three, /secret wants a password."""

    def do_GET(self) -> None:
        if self.path not in {"/live", "/short"}:
            self.send_error(401 if self.path == "/secret" else 404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        try:
            for number in range(3 if self.path == "/short" else 10_000):
                data = cv2.imencode(".jpg", np.full((48, 64, 3), 10 * (number % 20), np.uint8))[1].tobytes()
                self.wfile.write(b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                time.sleep(0.04)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mjpeg() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mjpeg)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_rtsp_gives_frames_with_the_time_at_which_they_came(rtsp: RtspServer) -> None:
    source = open_source(rtsp.url)

    frames = [source.read() for _ in range(30)]
    now = time.monotonic()
    source.close()

    captured = [frame.captured for frame in frames if frame]
    assert (source.size, source.live, source.length) == ((240, 320), True, None)
    assert [frame.index for frame in frames if frame] == list(range(30))
    assert captured == sorted(captured)
    assert captured[-1] <= now
    assert frames[0] is not None
    assert frames[0].image.shape == (240, 320, 3)


def test_motion_jpeg_over_http_gives_frames(mjpeg: str) -> None:
    source = open_source(f"{mjpeg}/live")

    levels = [round(float(frame.image.mean()) / 10) * 10 for frame in (source.read() for _ in range(5)) if frame]
    source.close()

    steps = {(after - before) % 200 for before, after in itertools.pairwise(levels)}
    assert steps == {10}, "none is missing and none comes twice"


@pytest.mark.parametrize("has_av", [True, False])
def test_a_file_on_a_server_is_read_whole_as_a_file(
    tmp_path: Path, has_av: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "has_av", lambda: has_av)
    picture = np.zeros((48, 64, 3), np.uint8)
    with open_video(tmp_path / "clip.mp4", size=(48, 64), fps=25) as sink:
        for index in range(12):
            sink.show(Rendered(Frame(picture, 0.0, index), picture, picture))
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    source = open_source(f"http://127.0.0.1:{server.server_port}/clip.mp4")
    frames = list(iter(source.read, None))
    source.close()
    server.shutdown()
    server.server_close()

    assert (source.live, source.length, len(frames)) == (False, 12, 12)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files, without a line on stderr for each request."""

    def log_message(self, *_: object) -> None:
        pass


def test_a_wrong_password_and_a_wrong_address_are_told_apart(mjpeg: str) -> None:
    with pytest.raises(SourceError, match="refuses the name or password"):
        open_source(f"{mjpeg}/secret")
    with pytest.raises(SourceError, match="is not on that server, which answers"):
        open_source(f"{mjpeg}/elsewhere")


def test_rtsp_with_a_password(has_server: None) -> None:
    server = RtspServer("me", "secret")
    try:
        with pytest.raises(SourceError, match="refuses the name or password"):
            open_source(server.url)
        source = open_source(server.url.replace("://", "://me:secret@"))
        assert source.name == server.url
        assert source.read() is not None
        source.close()
    finally:
        server.kill()


def test_rtsp_has_no_such_stream(rtsp: RtspServer) -> None:
    with pytest.raises(SourceError, match="is not on that server"):
        open_source(rtsp.url + "-not")


def test_a_server_that_is_killed_and_comes_back_is_found_again(rtsp: RtspServer) -> None:
    told: list[str] = []
    stopping = threading.Event()
    source = Reconnecting(open_source(rtsp.url), lambda: open_source(rtsp.url), stopping=stopping, notify=told.append)
    before = [source.read() for _ in range(3)]

    rtsp.kill()
    threading.Timer(0.5, rtsp.start).start()
    after = [source.read() for _ in range(20)]
    source.close()

    indices = [frame.index for frame in (*before, *after) if frame]
    assert indices == list(range(23))
    assert source.outages == 1
    assert "was lost" in told[0]
    assert "is back" in told[1]


def test_fifty_outages_of_a_real_stream_leave_threads_and_descriptors_as_they_were(
    mjpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "FIRST_PAUSE", 0.001)

    def opened() -> Source:
        return open_source(f"{mjpeg}/short")

    source = Reconnecting(opened(), opened, stopping=threading.Event(), notify=lambda _: None)
    while source.outages < 2:
        source.read()
    before = descriptors(), threading.active_count()

    while source.outages < 52:
        assert source.read() is not None
    for _ in range(1200):  # the server's end of a connection, and its thread, go a moment later
        if descriptors() <= before[0] and threading.active_count() <= before[1]:
            break
        time.sleep(0.05)
    after = descriptors(), threading.active_count()
    source.close()

    assert after <= before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_without_pyav_opencv_reads_the_stream(rtsp: RtspServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "has_av", lambda: False)

    source = open_source(rtsp.url)
    frame = source.read()
    source.close()

    assert frame is not None
    assert frame.image.shape == (240, 320, 3)
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ, "files would be decoded with them too"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:secret@host:554/live?x=1", "rtsp://host:554/live?x=1"),
        ("http://host/live", "http://host/live"),
        ("clip.mp4", "clip.mp4"),
    ],
)
def test_passwords_are_never_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown
