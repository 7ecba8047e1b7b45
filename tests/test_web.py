"""The page, over a real socket on the loopback address: an endless stream is more than a test client can hold."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import cv2
import numpy as np
import pytest

from cyclegan_edge.errors import SinkError
from cyclegan_edge.video.frames import BgrPicture, Frame
from cyclegan_edge.video.timings import Recent, Stages
from cyclegan_edge.web import server
from cyclegan_edge.web.server import Page, check_web, open_page

pytest.importorskip("starlette", reason="the extra [web] is not installed")
pytest.importorskip("uvicorn", reason="the extra [web] is not installed")

ABOUT = {"model": "scenes", "engine": "onnxruntime", "device": "CPU", "source": "synthetic"}
RECENT = Recent(frames=9, dropped=4, fps=25.0, median=Stages(1, 2, 30, 4, 5, 61))


@pytest.fixture
def page() -> Iterator[Page]:
    with open_page("127.0.0.1", 0, about=ABOUT, stats=lambda: RECENT) as page:
        yield page


def show(page: Page, level: int, size: tuple[int, int] = (48, 64)) -> None:
    picture = np.full((*size, 3), (0, 0, level), np.uint8)  # red
    assert page.show(picture, Frame(picture, 0.0, 0))


def get(page: Page, path: str, host: str | None = None) -> HTTPResponse:
    request = urllib.request.Request(page.url + path, headers={"Host": host} if host else {})
    answer: HTTPResponse = urllib.request.urlopen(request, timeout=10)
    return answer


def next_level(stream: HTTPResponse) -> int | None:
    """The red level of the next picture of a stream, None at its end."""
    if stream.readline() != b"--picture\r\n":
        return None
    headers = dict(line.split(b": ") for line in iter(stream.readline, b"\r\n"))
    data = stream.read(int(headers[b"Content-Length"]))
    assert stream.readline() == b"\r\n"
    bgr: BgrPicture = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    return round(float(bgr[..., 2].mean()) / 10) * 10


@pytest.mark.parametrize(
    ("path", "kind", "word"),
    [
        ("/", "text/html", b"stream.mjpg"),
        ("/page.css", "text/css", b"--ground"),
        ("/page.js", "text/javascript", b"stats.json"),
    ],
)
def test_the_page_and_its_parts_are_served(page: Page, path: str, kind: str, word: bytes) -> None:
    with get(page, path) as answer:
        body = answer.read()

    assert answer.headers.get_content_type() == kind
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert word in body


def numbers(page: Page) -> dict[str, Any]:
    with get(page, "/stats.json") as answer:
        content: dict[str, Any] = json.load(answer)
    return content


def test_the_numbers_before_the_first_picture(page: Page) -> None:
    content = numbers(page)

    assert (content["about"], content["frames"], content["fps"], content["median_ms"]) == (ABOUT, 0, None, None)


def test_the_numbers_are_those_of_the_last_picture(page: Page) -> None:
    show(page, 100)

    content = numbers(page)

    assert (content["frames"], content["dropped"], content["fps"]) == (9, 4, 25.0)
    assert content["median_ms"] == {"wait": 1, "prepare": 2, "run": 30, "restore": 4, "show": 5, "age": 61}
    assert content["idle_s"] >= 0


def test_a_watcher_gets_the_newest_picture_and_then_those_that_follow(page: Page) -> None:
    show(page, 50)
    show(page, 100)

    with get(page, "/stream.mjpg") as stream:
        first = next_level(stream)
        show(page, 200)
        second = next_level(stream)

    assert (first, second) == (100, 200)


def test_a_watcher_who_does_not_read_misses_pictures_and_holds_nobody_up(page: Page, rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)  # about 0.5 MB as JPEG, more than a connection holds
    frame = Frame(noise, 0.0, 0)

    with get(page, "/stream.mjpg") as lazy, get(page, "/stream.mjpg") as eager:
        for _ in range(30):
            page.show(noise, frame)
            next_level(eager)
        show(page, 200)
        assert next_level(eager) == 200
        caught_up = [next_level(lazy)]
        while caught_up[-1] != 200:
            caught_up.append(next_level(lazy))

    assert len(caught_up) < 31


def test_closing_ends_the_streams(page: Page) -> None:
    show(page, 50)

    with get(page, "/stream.mjpg") as stream:
        next_level(stream)
        page.close()
        last = next_level(stream)

    assert last is None


def test_on_the_loopback_address_a_foreign_name_is_refused(page: Page) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(page, "/stats.json", host="elsewhere.example")

    assert refused.value.code == 400
    refused.value.close()


def test_a_taken_port_is_a_sentence(page: Page) -> None:
    port = int(page.url.rpartition(":")[2])

    with pytest.raises(SinkError, match=rf"cannot be served at 127\.0\.0\.1:{port} \(.*\); choose another with --port"):
        open_page("127.0.0.1", port, about=ABOUT, stats=lambda: RECENT).__enter__()


def test_a_port_out_of_range_is_a_sentence() -> None:
    with pytest.raises(SinkError, match="ports go from 0 to 65535"):
        open_page("127.0.0.1", 70000, about=ABOUT, stats=lambda: RECENT).__enter__()


def test_a_missing_extra_is_named_with_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)

    with pytest.raises(
        SinkError, match=r"needs starlette and uvicorn; add them with `pip install 'cyclegan-edge\[web\]'`"
    ):
        check_web()
