"""What hours and crowds do to the page and the recorder. A part of benchmarks/live.py."""

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from live_stand_ins import Cycling, Row, StandIn

from cyclegan_edge import Translator
from cyclegan_edge.video.paced import Paced
from cyclegan_edge.video.pipeline import Pipeline
from cyclegan_edge.video.recorder import Recorder, open_recording
from cyclegan_edge.video.timings import Timings


def half_sent(_: float) -> Iterator[Row]:
    """Requests that never end, at 256 open files."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256));"
        "import sys, time; from cyclegan_edge.web.server import open_page;"
        "from cyclegan_edge.video.timings import Timings;"
        "opened = open_page('127.0.0.1', 0, about={'model': 'x'}, stats=Timings().recent); page = opened.__enter__();"
        "print(page.url.rpartition(':')[2], flush=True); time.sleep(60)"
    )
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    held = []
    try:
        for _ in range(300):
            half = socket.create_connection(("127.0.0.1", port), timeout=5)
            half.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            held.append(half)
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
            asking.sendall(b"GET /stats.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answered = asking.recv(15) == b"HTTP/1.1 200 OK"
        took = time.monotonic() - began
    finally:
        server.kill()
        server.communicate()
        for half in held:
            half.close()
    yield Row(
        "300 half-sent requests at 256 open files", "answers within 1 s", f"{1000 * took:.0f} ms", answered and took < 1
    )


def soak(minutes: float, *, segment: float = 60.0) -> Iterator[Row]:
    """Hours in small: 720p with two watchers and segments; memory, threads and descriptors after the first minute."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    from cyclegan_edge.web.server import open_page

    with tempfile.TemporaryDirectory() as folder:
        timings = Timings()
        engine = Translator(StandIn(20), size=256)
        recorder = Recorder(Path(folder) / "clip.mp4", fps=30, segment=segment)
        with (
            open_page("127.0.0.1", 0, about={"model": "x"}, stats=timings.recent) as served,
            open_recording(recorder) as recording,
        ):
            stopping = threading.Event()

            def watch() -> None:
                with connect(served.url.replace("http", "ws") + "/live", max_size=None) as browser:
                    while not stopping.is_set():
                        try:
                            message = browser.recv()
                        except ConnectionClosed:
                            return
                        if isinstance(message, bytes):
                            browser.send(json.dumps({"ack": int.from_bytes(message[:4], "little"), "age": 1}))

            watchers = [threading.Thread(target=watch, daemon=True) for _ in range(2)]
            for watcher in watchers:
                watcher.start()
            pipeline = Pipeline(Paced(Cycling(30)), [served, recording])
            began, first, last = time.monotonic(), None, None
            for timing in pipeline.run(engine, seconds=60 * minutes):
                timings.add(timing)
                if time.monotonic() - began > 60 and (last is None or timings.recent().frames % 30 == 0):
                    last = _footprint()
                    first = first or last
                for old in sorted(Path(folder).iterdir())[:-2]:
                    old.unlink()
            stopping.set()
    if first is None or last is None:
        yield Row("soak", "", "left out: shorter than a minute")
        return
    grown = last[0] - first[0]
    yield Row(
        f"{minutes:g} minutes at 720p, two watchers, a segment a minute",
        "< 5 MB growth after the first minute; threads and descriptors constant",
        f"{grown:+.1f} MB, threads {first[1]} -> {last[1]}, descriptors {first[2]} -> {last[2]}",
        grown < 5 and first[1] == last[1] and abs(first[2] - last[2]) <= 1,
    )


def _footprint() -> tuple[float, int, int]:
    """Resident MB, threads and descriptors of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6, threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
