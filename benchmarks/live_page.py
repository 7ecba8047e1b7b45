"""The page in Chromium, for live.py: how old its pictures are, what a slow or cut link does, and its camera.

Needs Debian's chromium and `pip install playwright`; the address of the browser may be named in CHROMIUM.
"""

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from cyclegan_edge import Translator
from cyclegan_edge.video.pipeline import Pipeline
from cyclegan_edge.video.timings import Timings
from cyclegan_edge.web.camera import BrowserSource
from cyclegan_edge.web.server import Page as Served
from cyclegan_edge.web.server import open_page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
if not CHROMIUM:
    raise ImportError("no chromium here")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
CLIP_FPS = 30

READ_BARS = """() => {
  const canvas = document.getElementById("picture"), context = canvas.getContext("2d");
  const now = Date.now(), row = context.getImageData(0, canvas.height >> 3, canvas.width, 1).data;
  let value = 0;
  for (let bit = 0; bit < 32; bit++) {
    const x = Math.min(canvas.width - 1, Math.round((bit + 0.5) * canvas.width / 32));
    value = value * 2 + (row[4 * x] > 127 ? 1 : 0);
  }
  return [(now - value) & 0x7fffffff, live.age, live.pictures, live.state];
}"""
SAMPLE = """(seconds) => new Promise((resolve) => {
  const read = READ_BARS, samples = [], before = live.pictures, began = performance.now();
  let last = before;
  const timer = setInterval(() => {
    if (live.pictures !== last) { last = live.pictures; samples.push(read()); }
    if (performance.now() - began > 1000 * seconds) {
      clearInterval(timer);
      resolve([samples, (live.pictures - before) / seconds]);
    }
  }, 4);
})""".replace("READ_BARS", READ_BARS)

Result = tuple[str, str, str, bool | None]


class Link:
    """A proxy in front of a port, which limits the bytes a second that come back, or stops passing anything on."""

    def __init__(self, port: int, rate: float | None = None) -> None:
        self.rate, self.cut = rate, False
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            far = socket.create_connection(("127.0.0.1", self._port))
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            threading.Thread(target=self._pass, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, self.rate), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, rate: float | None) -> None:
        cut_when_begun = self.cut
        try:
            while data := source.recv(4096):
                if rate:
                    time.sleep(len(data) / rate)
                if self.cut or cut_when_begun:
                    time.sleep(1e6)  # neither passed on nor closed, as when a network goes away
                target.sendall(data)
        except OSError:
            pass
        finally:
            target.close()


@contextmanager
def serving(engine_ms: float, *, camera: bool = False) -> Iterator[tuple[Served, Pipeline]]:
    """A page over a pipeline of bars at 30 fps, or of the browser's camera, with a stand-in for the engine."""
    import live

    source: Any = BrowserSource((256, 456)) if camera else live.Barred(live.Cycling(30))
    timings = Timings()
    pipeline = Pipeline(source)
    about = {"model": "stand-in", "camera_width": 456, "camera_height": 256}
    opened = open_page("127.0.0.1", 0, about=about, stats=timings.recent, camera=source if camera else None)
    with opened as page:
        pipeline.add(page)
        engine = Translator(live.StandIn(engine_ms), size=256)

        def work() -> None:
            for timing in pipeline.run(engine):
                timings.add(timing)

        working = threading.Thread(target=work, daemon=True)
        working.start()
        try:
            yield page, pipeline
        finally:
            if camera:
                source.close()
            pipeline.stop()
            working.join(10)


def opened_page(browser: Browser, url: str, **context: Any) -> Page:
    """The page, once it has shown some pictures."""
    page = browser.new_context(**context).new_page()
    page.goto(url)
    page.wait_for_function("() => window.live && live.pictures > 30", timeout=60_000)
    return page


def rows(seconds: float) -> Iterator[Result]:
    """Every figure of the page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with serving(10) as (served, _):
            yield from _fast(browser, served, seconds)
            yield from _phone(browser, served)
            yield from _slow(browser, served, seconds)
            yield from _cut(browser, served)
        browser.close()
        for engine in (20.0, 100.0):
            yield from _camera(playwright, engine, seconds)


def _fast(browser: Browser, served: Served, seconds: float) -> Iterator[Result]:
    page = opened_page(browser, served.url)
    samples, fps = page.evaluate(SAMPLE, seconds)
    true, own = np.array([sample[0] for sample in samples]), np.array([sample[1] for sample in samples])
    apart = float(np.median(np.abs(true - own)))
    what = f"page, {fps:.0f} fps: true age {np.median(true):.0f} ms (95 % {np.percentile(true, 95):.0f})"
    yield what, "its own figure within 10 ms", f"says {np.median(own):.0f} ms, {apart:.0f} ms apart", apart <= 10
    page.context.close()


def _phone(browser: Browser, served: Served) -> Iterator[Result]:
    page = opened_page(browser, served.url, viewport={"width": 844, "height": 390}, is_mobile=True, has_touch=True)
    height = page.evaluate("() => document.getElementById('picture').getBoundingClientRect().height")
    yield "phone in landscape, 844x390", ">= 60 % of the height", f"{height / 390:.0%}", height >= 0.6 * 390
    page.context.close()


def _slow(browser: Browser, served: Served, seconds: float) -> Iterator[Result]:
    link = Link(int(served.url.rpartition(":")[2]), rate=200_000)
    page = opened_page(browser, f"http://127.0.0.1:{link.port}")
    samples, fps = page.evaluate(SAMPLE, 2 * seconds)
    true, own = np.array([sample[0] for sample in samples]), np.array([sample[1] for sample in samples])
    late = float(np.percentile(true, 95))
    yield (
        "page on 200 kB/s: 95 % of the pictures are younger than",
        "700 ms, >= 6 fps, own age shown",
        f"{late:.0f} ms, {fps:.1f} fps, says {np.median(own):.0f} where {np.median(true):.0f} is true (medians)",
        late < 700 and fps >= 6,
    )
    page.context.close()


def _cut(browser: Browser, served: Served) -> Iterator[Result]:
    link = Link(int(served.url.rpartition(":")[2]))
    page = opened_page(browser, f"http://127.0.0.1:{link.port}")
    link.cut, began = True, time.monotonic()
    page.wait_for_function("() => live.state === 'lost'", timeout=20_000)
    noticed = time.monotonic() - began
    text = page.text_content("#state")
    yield (
        "page after its connection was cut",
        '"reconnecting" within 2 s',
        f'"{text}" after {noticed:.1f} s',
        noticed < 2,
    )
    time.sleep(3)
    pictures = page.evaluate("() => live.pictures")
    link.cut, began = False, time.monotonic()
    page.wait_for_function(f"() => live.pictures > {pictures}", timeout=20_000)
    back = time.monotonic() - began
    yield "  picture again once the network is back", "within 3 s", f"{back:.1f} s", back < 3
    page.context.close()


def _camera(playwright: Any, engine: float, seconds: float) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mjpeg"
        _write_clip(clip)
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *FLAGS,
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={clip}",
            ],
        )
        with serving(engine, camera=True) as (served, _):
            page = browser.new_context().new_page()
            page.goto(served.url)
            page.wait_for_selector("#camera:not([hidden])")
            page.click("#camera")
            page.wait_for_function("() => live.camera.length > 10", timeout=60_000)
            page.evaluate("() => { live.camera.length = 0; }")
            time.sleep(2 * seconds)
            trips = np.array(page.evaluate("() => live.camera"))
        browser.close()
    rate = len(trips) / (2 * seconds)
    half = len(trips) // 2
    first, second = (float(np.median(part)) - engine for part in (trips[:half, 1], trips[half:, 1]))
    bound = ">= 20 fps, " if engine < 50 else ""
    yield (
        f"the browser's camera, 456x256, engine of {engine:g} ms",
        f"{bound}round trip minus engine <= 15 ms, constant",
        f"{rate:.1f} fps, {first:.0f} ms, then {second:.0f} ms",
        (engine > 50 or rate >= 20) and max(first, second) <= 15,
    )


def _write_clip(path: Path) -> None:
    """Motion JPEG as Chromium's fake camera reads it: JPEGs one after the other."""
    import cv2
    import live

    source = live.Cycling(CLIP_FPS, size=(256, 456))
    path.write_bytes(b"".join(cv2.imencode(".jpg", source.read().image)[1].tobytes() for _ in range(60)))


if __name__ == "__main__":
    for row in rows(5):
        print(*row, sep=" | ", flush=True)  # noqa: T201
