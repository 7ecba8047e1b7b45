"""The page, over real sockets on the loopback address."""

import contextlib
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra [web] is not installed")
pytest.importorskip("segno", reason="the extra [web] is not installed")

from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cyclegan_edge.errors import ConfigError, SinkError
from cyclegan_edge.video.frames import BgrPicture, Frame, Rendered
from cyclegan_edge.video.timings import Recent, Stages
from cyclegan_edge.web import server
from cyclegan_edge.web.access import MOST_CONNECTIONS
from cyclegan_edge.web.camera import BrowserSource
from cyclegan_edge.web.server import Page, open_page
from cyclegan_edge.web.watcher import HEADER, TAG

ABOUT = {"model": "scenes", "engine": "onnxruntime", "device": "CPU", "source": "synthetic"}
RECENT = Recent(frames=9, dropped=4, fps=25.0, median=Stages(1, 2, 30, 4, 5, 61))
WAIT = 60  # s


class Board:
    """Controls that remember what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    def state(self) -> dict[str, Any]:
        return {"smooth": False}

    def set(self, name: str, value: object) -> None:
        if name == "wrong":
            raise ConfigError("There is no setting wrong here.")
        self.asked.append((name, value))

    def png(self) -> bytes | None:
        return b"\x89PNG"


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def page(board: Board) -> Iterator[Page]:
    with open_page("127.0.0.1", 0, about=ABOUT, stats=lambda: RECENT, controls=board) as page:
        yield page


def show(page: Page, level: int, *, tag: int | None = None, size: tuple[int, int] = (48, 64)) -> None:
    """One picture whose red is `level` in the translation and 250 - `level` in the input."""
    translated: BgrPicture = np.full((*size, 3), (0, 0, level), np.uint8)
    image: BgrPicture = np.full((*size, 3), (0, 0, 250 - level), np.uint8)
    assert page.show(Rendered(Frame(image, time.monotonic(), 0, tag), translated, translated))


def get(page: Page, path: str, **headers: str) -> HTTPResponse:
    request = urllib.request.Request(page.url + path, headers=headers)
    answer: HTTPResponse = urllib.request.urlopen(request, timeout=WAIT)
    return answer


def status_of(page: Page, path: str, **headers: str) -> int:
    try:
        with get(page, path, **headers) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@contextlib.contextmanager
def watching(page: Page, **options: Any) -> Iterator[ClientConnection]:
    with connect(page.url.replace("http", "ws") + "/live", open_timeout=WAIT, max_size=None, **options) as socket_:
        yield socket_


def next_picture(watcher: ClientConnection, *, acknowledge: bool = True) -> tuple[int, int, bool, BgrPicture]:
    """Number, tag + 1, whether both, and the picture itself."""
    while isinstance(message := watcher.recv(timeout=WAIT), str):
        pass
    number, tag, both, _ = HEADER.unpack_from(message)
    picture = cv2.imdecode(np.frombuffer(message[HEADER.size :], np.uint8), cv2.IMREAD_COLOR)
    if acknowledge:
        watcher.send(json.dumps({"ack": number, "age": 12.5}))
    return number, tag, bool(both), np.asarray(picture, np.uint8)


def next_text(watcher: ClientConnection, key: str) -> dict[str, Any]:
    while True:
        message = watcher.recv(timeout=WAIT)
        if isinstance(message, str) and key in (content := json.loads(message)):
            return dict(content)


def level_of(picture: BgrPicture) -> int:
    return round(float(picture[..., 2].mean()) / 10) * 10


@pytest.mark.parametrize(
    ("path", "kind", "word"),
    [
        ("/", "text/html", b"divider"),
        ("/?bare", "text/html", b"divider"),
        ("/page.css", "text/css", b"--ground"),
        ("/page.js", "text/javascript", b"/live"),
    ],
)
def test_the_page_and_its_parts_are_served(page: Page, path: str, kind: str, word: bytes) -> None:
    with get(page, path) as answer:
        body = answer.read()

    assert answer.headers.get_content_type() == kind
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert word in body


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for name in ("page.html", "page.css", "page.js"):
        assert not re.search(
            r"https?://\w|(src|href)=.?//|@import|url\(", Path(server.__file__).with_name(name).read_text()
        )


def test_what_is_not_there_is_said(page: Page) -> None:
    assert status_of(page, "/../server.py") == 404
    assert status_of(page, "/page.html") == 404


def test_the_numbers_are_those_of_the_run(page: Page) -> None:
    with get(page, "/stats.json") as answer:
        content = json.load(answer)

    assert content["about"] == {**ABOUT, "camera": False}
    assert (content["frames"], content["dropped"], content["fps"]) == (9, 4, 25.0)
    assert content["median_ms"] == {"wait": 1, "prepare": 2, "run": 30, "restore": 4, "show": 5, "age": 61}
    assert content["idle_s"] >= 0


def test_prometheus_gets_the_same_numbers(page: Page) -> None:
    with get(page, "/metrics") as answer:
        lines = answer.read().decode().splitlines()

    assert "cyclegan_edge_frames_total 9" in lines
    assert "cyclegan_edge_frames_per_second 25.0" in lines
    assert 'cyclegan_edge_stage_seconds{stage="run"} 0.030000' in lines


def test_the_newest_picture_comes_in_full_as_a_snapshot(page: Page) -> None:
    with get(page, "/snapshot.png") as answer:
        assert answer.read() == b"\x89PNG"


def test_a_watcher_gets_the_newest_picture_and_then_those_that_follow(page: Page) -> None:
    show(page, 50)
    show(page, 100)

    with watching(page) as watcher:
        first = next_picture(watcher)
        show(page, 200)
        second = next_picture(watcher)

    assert (level_of(first[3]), level_of(second[3])) == (100, 200)
    assert (first[0], second[0]) == (2, 3)


def test_nothing_is_sent_until_the_picture_before_is_acknowledged_and_then_it_is_the_newest(page: Page) -> None:
    with watching(page) as watcher:
        show(page, 50)
        number = next_picture(watcher, acknowledge=False)[0]
        for level in (100, 150, 200):
            show(page, level)
        next_text(watcher, "stats")  # half a second in which nothing but numbers came
        watcher.send(json.dumps({"ack": number, "age": 1}))
        assert level_of(next_picture(watcher)[3]) == 200


def test_both_halves_come_where_that_is_asked_for(page: Page) -> None:
    with watching(page) as watcher:
        watcher.send(json.dumps({"both": True}))
        watcher.send(json.dumps({"ping": 1}))
        next_text(watcher, "pong")  # so it was heard
        show(page, 200)
        _, _, both, picture = next_picture(watcher)

    assert both
    half = picture.shape[1] // 2
    assert (level_of(picture[:, :half]), level_of(picture[:, half:])) == (50, 200)


def test_the_browser_learns_the_time_of_the_pictures(page: Page) -> None:
    with watching(page) as watcher:
        watcher.send(json.dumps({"ping": 123.5}))
        answer = next_text(watcher, "pong")

    assert answer["pong"] == 123.5
    assert abs(answer["now"] - time.monotonic()) < WAIT


def test_the_ages_that_browsers_measure_are_in_the_numbers(page: Page) -> None:
    with watching(page) as watcher:
        show(page, 50)
        next_picture(watcher)
        show(page, 60)
        next_picture(watcher)
        assert page.numbers()["oldest_watcher_ms"] == 12.5
        assert page.numbers()["watchers"] == 1


def test_settings_reach_the_controls_and_wrong_ones_are_answered(page: Page, board: Board) -> None:
    with watching(page) as watcher:
        watcher.send(json.dumps({"set": ["smooth", True]}))
        watcher.send(json.dumps({"set": ["wrong", True]}))
        answer = next_text(watcher, "error")

    assert board.asked == [("smooth", True)]
    assert answer["error"] == "There is no setting wrong here."


@pytest.mark.parametrize(
    "nonsense", ["", "[]", "{", "null", '{"set": 3}', '{"ack": "x"}', "[" * 100_000, b"", b"\xff" * 9]
)
def test_nonsense_is_ignored(page: Page, nonsense: str | bytes) -> None:
    with watching(page) as watcher:
        watcher.send(nonsense)
        watcher.send(json.dumps({"ping": 1}))
        assert next_text(watcher, "pong")["pong"] == 1


def test_closing_ends_the_watchers() -> None:
    with open_page("127.0.0.1", 0, about=ABOUT, stats=lambda: RECENT) as page, watching(page) as watcher:
        next_text(watcher, "stats")
        page.close()
        assert list(watcher) is not None  # it ends


def test_a_page_whose_server_ended_says_so(page: Page) -> None:
    page.close()

    with pytest.raises(SinkError, match="has ended; start again"):
        show(page, 1)


def test_on_the_loopback_address_a_foreign_name_is_refused(page: Page) -> None:
    assert status_of(page, "/stats.json", Host="elsewhere.example") == 400
    assert status_of(page, "/stats.json", Host="localhost:1") == 200


def test_another_site_cannot_watch(page: Page) -> None:
    with pytest.raises(InvalidStatus) as refused, watching(page, origin="http://elsewhere.example"):
        pass

    assert refused.value.response.status_code == 403


@pytest.fixture
def public() -> Iterator[Page]:
    with open_page("0.0.0.0", 0, about=ABOUT, stats=lambda: RECENT) as page:
        yield page


def test_elsewhere_than_on_the_loopback_address_a_token_is_needed(public: Page) -> None:
    token = public.link.rpartition("=")[2]
    assert len(token) >= 20

    assert status_of(public, "/") == status_of(public, "/stats.json") == 401
    assert status_of(public, "/stats.json?token=wrong") == 401
    assert status_of(public, f"/stats.json?token={token}") == 200
    assert status_of(public, "/metrics", Authorization=f"Bearer {token}") == 200
    with pytest.raises(InvalidStatus), watching(public):
        pass


def test_the_link_puts_the_token_into_a_cookie_with_which_everything_opens(public: Page) -> None:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    with pytest.raises(urllib.error.HTTPError) as moved:
        urllib.request.build_opener(Stay).open(public.link, timeout=WAIT)
    answer = moved.value

    assert (answer.code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    answer.close()
    own = {"Cookie": cookie.partition(";")[0]}
    assert status_of(public, "/", **own) == 200
    with watching(public, additional_headers=own) as watcher:
        assert next_text(watcher, "about")["about"]["model"] == "scenes"


def test_the_link_names_an_address_that_others_can_reach(public: Page) -> None:
    assert "0.0.0.0" not in public.link


def test_a_hostname_that_is_not_this_machine_is_refused_in_spite_of_the_token(public: Page) -> None:
    token = public.link.rpartition("=")[2]

    assert status_of(public, f"/stats.json?token={token}", Host="elsewhere.example") == 400


@pytest.mark.parametrize("host", ["::1", "127.0.0.2"])
def test_no_spelling_of_the_loopback_address_escapes_the_checks(host: str) -> None:
    with open_page(host, 0, about=ABOUT, stats=lambda: RECENT) as page:
        own = {"Authorization": f"Bearer {page.link.rpartition('=')[2]}"} if "token=" in page.link else {}

        assert status_of(page, "/stats.json", **own) == 200
        assert status_of(page, "/stats.json", Host="elsewhere.example", **own) == 400
        assert bool(own) == (status_of(page, "/stats.json") == 401) == (host == "127.0.0.2")


def test_hundreds_of_half_sent_requests_keep_nobody_out(page: Page) -> None:
    port = int(page.url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT))
            half.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert status_of(page, "/stats.json") == 200
        assert len(page._connections) <= MOST_CONNECTIONS
        with watching(page) as watcher:
            next_text(watcher, "stats")


def test_whoever_watches_is_not_put_out_for_newcomers(page: Page) -> None:
    port = int(page.url.rpartition(":")[2])
    with watching(page) as watcher, contextlib.ExitStack() as stack:
        next_text(watcher, "stats")
        for _ in range(2 * MOST_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT)).sendall(b"GET")
        watcher.send(json.dumps({"ping": 7}))
        assert next_text(watcher, "pong")["pong"] == 7


def test_a_picture_from_a_browser_is_a_frame_and_comes_back_with_its_tag(board: Board) -> None:
    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 200, np.uint8))[1].tobytes()
    with (
        contextlib.closing(BrowserSource()) as camera,
        open_page("127.0.0.1", 0, about=ABOUT, stats=lambda: RECENT, controls=board, camera=camera) as page,
        watching(page) as watcher,
    ):
        watcher.send(TAG.pack(41) + jpeg)
        frame = camera.read()
        assert frame is not None
        show(page, 90, tag=frame.tag)
        _, tag, _, _ = next_picture(watcher)

    assert (frame.tag, frame.index) == (41, 0)
    assert abs(int(frame.image.mean()) - 200) < 3
    assert tag == 42
