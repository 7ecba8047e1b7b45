"""The page in Debian's Chromium: what a person sees and can do. No figure is measured here; see benchmarks/live.py."""

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cyclegan_edge.video.frames import BgrPicture, Frame, Rendered
from cyclegan_edge.video.timings import Recent, Stages
from cyclegan_edge.web.camera import BrowserSource
from cyclegan_edge.web.server import Page, open_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("websockets", reason="the extra [web] is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

ABOUT = {"model": "summer", "engine": "stand-in", "device": "nowhere", "source": "memory"}
RECENT = Recent(frames=9, dropped=4, fps=25.0, median=Stages(1, 2, 30, 4, 5, 61))
GREEN, RED = (40, 200, 40), (40, 40, 200)  # BGR


class Board:
    """Controls that do what they are told."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {
            "model": "summer",
            "models": ["summer", "winter"],
            "loading": None,
            "recording": False,
            "frozen": False,
            "smooth": False,
            "trouble": None,
        }
        self._told: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()

    def state(self) -> dict[str, Any]:
        return dict(self.settings)

    def set(self, name: str, value: object) -> None:
        self.settings[name] = value
        self._told.put((name, value))

    def told(self, name: str) -> object:
        """The value that the page sends next, which has to be for this setting; it may take as long as it likes."""
        told, value = self._told.get(timeout=30)
        assert told == name
        return value

    def png(self) -> bytes | None:
        return cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()


class Show:
    """A page that is fed with pictures, green as the input and red as the translation, until it is stopped."""

    def __init__(self, port: int = 0) -> None:
        self.board = Board()
        self.feeding = threading.Event()
        self.feeding.set()
        self._opened = open_page("127.0.0.1", port, about=ABOUT, stats=lambda: RECENT, controls=self.board)
        self.page: Page = self._opened.__enter__()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        image: BgrPicture = np.full((90, 160, 3), GREEN, np.uint8)
        translated: BgrPicture = np.full((90, 160, 3), RED, np.uint8)
        while not self._ended.wait(0.03):
            if self.feeding.is_set():
                self.page.show(Rendered(Frame(image, time.monotonic(), 0), translated, translated))

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)
        self._opened.__exit__(None, None, None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def show() -> Iterator[Show]:
    show = Show()
    yield show
    show.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a tab of its own; errors of the page fail the test."""
    errors: list[str] = []
    contexts = []

    def opened(url: str, *, pictures: int = 3, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(url)
        tab.wait_for_function(f"() => window.live && live.pictures >= {pictures}")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def colour_at(tab: Any, x: float) -> str:
    """What is at this part of the width of the picture: "red", "green" or another."""
    red, green, blue, _ = tab.evaluate(
        """(x) => {
          const canvas = document.getElementById("picture"), at = Math.round(x * (canvas.width - 1));
          return Array.from(canvas.getContext("2d").getImageData(at, canvas.height >> 1, 1, 1).data);
        }""",
        x,
    )
    return "red" if red > 150 > max(green, blue) else "green" if green > 150 > max(red, blue) else "another"


def test_it_shows_the_picture_its_age_and_what_runs(show: Show, visit: Callable[..., Any]) -> None:
    tab = visit(show.page.url, pictures=40)

    tab.wait_for_function("() => /^[0-9]+$/.test(document.getElementById('age').textContent)")
    tab.wait_for_function("() => document.getElementById('state').textContent === 'live'")
    assert colour_at(tab, 0.5) == "red"
    assert 0 <= tab.evaluate("() => live.age") < 60_000
    assert "stand-in" in tab.text_content("#about")


def test_the_divider_shows_input_left_and_translation_right(show: Show, visit: Callable[..., Any]) -> None:
    tab = visit(show.page.url)

    tab.click("#compare")
    tab.wait_for_function("() => document.getElementById('divider').style.width !== ''")
    tab.fill("#divider", "300")

    assert (colour_at(tab, 0.1), colour_at(tab, 0.6)) == ("green", "red")
    tab.focus("#divider")
    tab.keyboard.press("End")
    assert colour_at(tab, 0.95) == "green"


def test_the_switches_and_the_keyboard_reach_the_run(show: Show, visit: Callable[..., Any]) -> None:
    tab = visit(show.page.url)

    tab.click("#smooth")
    assert show.board.told("smooth") is True
    tab.wait_for_selector("#smooth[aria-pressed=true]")
    tab.keyboard.press("r")
    assert show.board.told("recording") is True
    tab.wait_for_selector("#recording[aria-pressed=true]")
    tab.select_option("#model", "winter")
    assert show.board.told("model") == "winter"
    tab.wait_for_function("() => document.getElementById('model').value === 'winter'")


def test_a_snapshot_is_downloaded(show: Show, visit: Callable[..., Any], tmp_path: Path) -> None:
    tab = visit(show.page.url)

    with tab.expect_download() as download:
        tab.click("#snapshot")
    download.value.save_as(tmp_path / "picture.png")

    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_it_says_when_nothing_new_comes_and_why(show: Show, visit: Callable[..., Any]) -> None:
    tab = visit(show.page.url)

    show.board.settings["trouble"] = "the camera is away"
    show.feeding.clear()

    tab.wait_for_function("() => document.getElementById('state').textContent.startsWith('no new picture')")
    tab.wait_for_function("() => document.getElementById('notice').textContent === 'the camera is away'")


def test_it_finds_a_server_that_was_gone_again(show: Show, visit: Callable[..., Any]) -> None:
    tab = visit(show.page.url)
    port = int(show.page.url.rpartition(":")[2])

    show.close()
    tab.wait_for_function("() => live.state === 'lost'")
    pictures = tab.evaluate("() => live.pictures")
    assert tab.text_content("#state") == "reconnecting"
    again = Show(port)
    try:
        tab.wait_for_function(f"() => live.state === 'live' && live.pictures > {pictures}")
    finally:
        again.close()


def test_bare_is_the_picture_alone(show: Show, visit: Callable[..., Any]) -> None:
    tab = visit(f"{show.page.url}/?bare", viewport={"width": 640, "height": 360})

    assert tab.is_visible("#picture")
    assert not any(tab.is_visible(part) for part in ("header", ".controls", ".tiles", "figure", "footer"))
    assert tab.evaluate("() => document.getElementById('picture').getBoundingClientRect().height") == 360


@pytest.mark.parametrize(("width", "height", "share"), [(844, 390, 0.6), (390, 844, 0.2), (1280, 900, 0.4)])
def test_the_picture_is_large_on_phones_and_desktops(
    show: Show, visit: Callable[..., Any], width: int, height: int, share: float
) -> None:
    tab = visit(show.page.url, viewport={"width": width, "height": height})

    box = tab.evaluate("() => { const box = document.getElementById('picture').getBoundingClientRect(); return box; }")
    assert box["height"] >= share * height
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width, "nothing hangs out at the side"


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_it_is_light_or_dark_as_the_person_likes_it(
    show: Show, visit: Callable[..., Any], scheme: str, dark: bool
) -> None:
    tab = visit(show.page.url, color_scheme=scheme)

    ground = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(", "))) < 300) == dark


def test_everything_that_can_be_used_has_a_name_for_a_screen_reader(show: Show, visit: Callable[..., Any]) -> None:
    tab = visit(show.page.url)

    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("button, select, input, canvas")].filter((element) =>
          !element.getAttribute("aria-label") && !element.textContent.trim() && !element.labels?.length
        ).map((element) => element.id)"""
    )
    assert nameless == []


_RECORDS = """
import os, signal, sys
import numpy as np
from pathlib import Path
from cyclegan_edge.video.frames import Frame, Rendered
from cyclegan_edge.video.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), fps=10)
for index in range(60):
    picture = np.full((96, 128, 3), (40, 40, 4 * index), np.uint8)
    recorder.show(Rendered(Frame(picture, index / 10, index), picture, picture))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_recording_whose_process_was_killed_plays_in_the_browser(browser: Any, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra [video] is not installed")
    subprocess.run([sys.executable, "-c", _RECORDS, str(tmp_path / "clip.mp4")], check=False, capture_output=True)
    (tmp_path / "index.html").write_text('<video id="clip" src="clip.mp4" muted autoplay></video>')
    context = browser.new_context()
    tab = context.new_page()

    tab.goto((tmp_path / "index.html").as_uri())
    tab.wait_for_function("() => document.getElementById('clip').currentTime > 0.5")
    width, problem = tab.evaluate(
        "() => { const it = document.getElementById('clip'); return [it.videoWidth, it.error]; }"
    )
    tab.evaluate("() => { document.getElementById('clip').currentTime = 4; }")
    tab.wait_for_function("() => document.getElementById('clip').currentTime >= 4")
    context.close()

    assert (width, problem) == (128, None)


def test_the_camera_of_the_browser_comes_back_translated(visit: Callable[..., Any], browser: Any) -> None:
    camera = BrowserSource((96, 128))
    about = {**ABOUT, "camera_width": 320, "camera_height": 240}
    with open_page("127.0.0.1", 0, about=about, stats=lambda: RECENT, camera=camera) as page:

        def translate() -> None:
            while frame := camera.read():
                page.show(Rendered(frame, 255 - frame.image, frame.image))

        translating = threading.Thread(target=translate, daemon=True)
        translating.start()
        tab = visit(page.url, pictures=0)
        tab.click("#camera:not([hidden])")
        tab.wait_for_function("() => live.camera.length >= 5")
        tags = tab.evaluate("() => live.camera.length")
        camera.close()
        translating.join(10)

    assert tags >= 5
