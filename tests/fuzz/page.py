"""Seeded attacks on the page's server: requests and WebSocket messages as no browser sends them.

python tests/fuzz/page.py COUNT [SEED]

After each the server has to answer an honest request; what it raises inside is printed with the number of the attack.
"""

import base64
import contextlib
import json
import logging
import os
import random
import socket
import struct
import sys
import time
from collections import Counter
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.video.frames import BgrPicture, Frame, Rendered
from cyclegan_edge.video.timings import Recent, Stages
from cyclegan_edge.web.camera import BrowserSource
from cyclegan_edge.web.server import Page, open_page

WAIT = 2.0  # s
PATHS = [
    "/",
    "/live",
    "/stats.json",
    "/metrics",
    "/snapshot.png",
    "/?bare",
    "/../../etc/passwd",
    "/%00",
    "*",
    "",
    "//x",
]
PATHS += ["/" + "a" * 9000, "/?token=" + "%ff" * 50, "/live?token=x", "http://[::1", "/\udcff"]
HOSTS = ["127.0.0.1", "localhost", "evil.example", "", "[::1", "127.0.0.1:99999999", "a" * 5000, "127.0.0.1\x00"]
COOKIES = ["cyclegan_edge_token=x", "=", ";" * 300, 'a="', "é=1"]
VALUES: list[object] = [None, True, -1, 0, 1e308, 10**30, "", "x" * 5000, [], {}, [[]], {"a": 1}, "auto", 70]
KEYS = [
    "ack",
    "age",
    "set",
    "value",
    "name",
    "level",
    "quality",
    "both",
    "snapshot",
    "record",
    "camera",
    "model",
    "wrong",
]


class Board:
    """Controls that refuse what they do not know."""

    def state(self) -> dict[str, object]:
        return {}

    def set(self, name: str, value: object) -> None:
        if not isinstance(value, bool):
            raise ConfigError(f"{name} is {value!r:.50}, expected true or false.")

    def png(self) -> bytes | None:
        return None


class Raised(logging.Handler):
    """Keeps what is logged as an error, which for asyncio and websockets is what nobody caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.said.append(f"{record.getMessage():.100} {error!r:.200}")


def request(rng: random.Random, secret: bytes) -> bytes:
    """An HTTP request, perhaps for a WebSocket, perhaps broken."""
    method = rng.choice(["GET"] * 6 + ["POST", "PUT", "HEAD", "get", "", "G" * 9000])
    head = [f"{method} {rng.choice(PATHS)} {rng.choice(['HTTP/1.1'] * 5 + ['HTTP/1.0', 'HTTP/9', ''])}"]
    head.append(f"Host: {rng.choice(HOSTS)}")
    if rng.random() < 0.5:
        key = rng.choice([base64.b64encode(secret).decode(), "x", ""])
        head += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}"]
        head.append(f"Sec-WebSocket-Version: {rng.choice(['13', '13', '0', 'x', '9' * 50])}")
    if rng.random() < 0.3:
        head.append(f"Origin: {rng.choice(['http://evil.example', 'null', 'http://[', 'http://127.0.0.1'])}")
    if rng.random() < 0.3:
        head.append(f"Cookie: {rng.choice(COOKIES)}")
    head += [f"X-{number}: {'y' * rng.randrange(200)}" for number in range(rng.choice([0, 0, 0, 300]))]
    sent = "\r\n".join([*head, "", ""]).encode(errors="surrogateescape")
    if rng.random() < 0.2:
        for at in (rng.randrange(len(sent)) for _ in range(3)):
            sent = sent[:at] + bytes([rng.randrange(256)]) + sent[at + 1 :]
    return sent[: rng.randrange(len(sent))] if rng.random() < 0.1 else sent


def frame(rng: random.Random) -> bytes:
    """A WebSocket frame from a client, perhaps broken."""
    match rng.randrange(4):
        case 0:
            text = json.dumps({rng.choice(KEYS): rng.choice(VALUES) for _ in range(rng.randrange(4))})
        case 1:
            text = rng.choice(["", "{", "[]", "null", "1", "[" * 3000, '{"ack":' + "9" * 5000 + "}", '"x"', "NaN"])
        case _:
            text = ""
    content = text.encode() or rng.choice([b"", b"\xff\xd8\xff\xe0junk", os.urandom(40), struct.pack("<II", 1, 2)])
    opcode = 0x1 if text else rng.choice([0x2, 0x2, 0x8, 0x9, 0xA, 0x3, 0x0])
    first = opcode | rng.choice([0x80] * 5 + [0x00, 0xC0])
    size = len(content)
    length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
    if rng.random() < 0.05:
        length = struct.pack("!BQ", 0x80 | 127, rng.choice([1 << 40, (1 << 64) - 1, size]))
    return bytes([first]) + length + bytes(4) + content


def attack(rng: random.Random, port: int) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
        if rng.random() < 0.5:
            connection.sendall(request(rng, rng.randbytes(16)))
        else:
            key = base64.b64encode(rng.randbytes(16))
            connection.sendall(
                b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
            )
            connection.recv(4096)
            for _ in range(rng.randrange(1, 6)):
                connection.sendall(frame(rng))
        if rng.random() < 0.7:
            connection.settimeout(0.05)
            connection.recv(4096)


def answers(port: int) -> bool:
    honest = HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(honest):
        honest.request("GET", "/stats.json")
        return honest.getresponse().status == 200


def attacked(page: Page, count: int, first: int) -> None:
    counts: Counter[str] = Counter()
    logging.getLogger().addHandler(raised := Raised())
    picture: BgrPicture = np.zeros((48, 64, 3), np.uint8)
    port = urlsplit(page.url).port or 0
    for seed in range(first, first + count):
        page.show(Rendered(Frame(picture, time.monotonic(), seed), picture, picture))
        attack(random.Random(seed), port)
        well = answers(port)
        counts["survived" if well and not raised.said else "FAILED"] += 1
        for said in raised.said:
            sys.stdout.write(f"{seed}: {said}\n")
        raised.said.clear()
    sys.stdout.write(f"page: {count} tried, {dict(counts)}\n")


def main(count: int, first: int) -> None:
    recent = Recent(frames=1, dropped=0, fps=1.0, median=Stages(1, 1, 1, 1, 1, 1))
    camera = BrowserSource() if first % 2 else None
    with open_page("127.0.0.1", 0, about={}, stats=lambda: recent, controls=Board(), camera=camera) as page:
        logging.getLogger("cyclegan_edge.web").setLevel(logging.ERROR)
        attacked(page, count, first)


main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
