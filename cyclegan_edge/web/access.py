"""Who may talk to the page's server: tokens, names, origins, and how many at once.

On the loopback address nobody else can reach it, but a foreign site could point its own name at this machine, so the
name must be ours. On any other address everyone who can reach it needs the token, which the link and the QR code
carry; the first visit puts it into a cookie.
"""

import hmac
import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import asyncio

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request

LOOPBACK = ("127.0.0.1", "::1", "localhost")
COOKIE = "cyclegan_edge_token"
MOST_CONNECTIONS = 64


class AccessPolicy:
    """Decides on requests to a server at `host`."""

    def __init__(self, host: str) -> None:
        self.token = None if host in LOOPBACK else secrets.token_urlsafe(16)

    def refusal(self, request: "Request") -> int | None:
        """The HTTP status to refuse a request with, None to answer it."""
        name = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
        if not (name in LOOPBACK if self.token is None else _is_ours(name)):
            return 400
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
            return 403
        if self.token is not None and not hmac.compare_digest(_token_of(request).encode(), self.token.encode()):
            return 401
        return None

    def brings_token(self, request: "Request") -> bool:
        """Whether the address itself holds the right token, which belongs into a cookie and not into the history."""
        return self.token is not None and parse_qs(urlsplit(request.path).query).get("token") == [self.token]


class ConnectionLimit:
    """Counts connections. When there are too many, the oldest whose request has not come yet makes room."""

    def __init__(self) -> None:
        self._open: dict[ServerConnection, None] = {}  # in the order in which they came

    def admit(self, connection: "ServerConnection") -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            waiting = next((it for it in self._open if it.request is None), connection)
            waiting.transport.abort()
            self._open.pop(waiting, None)
            if waiting is connection:
                return
        self._open[connection] = None

    def forget(self, connection: "ServerConnection") -> None:
        self._open.pop(connection, None)

    def __len__(self) -> int:
        return len(self._open)

    def factory(self) -> type["ServerConnection"]:
        """What makes the server's connections, each of which is counted here."""
        from websockets.asyncio.server import ServerConnection

        limit = self

        class Counted(ServerConnection):
            def connection_made(self, transport: "asyncio.BaseTransport") -> None:
                super().connection_made(transport)
                limit.admit(self)

            def connection_lost(self, exc: Exception | None) -> None:
                limit.forget(self)
                super().connection_lost(exc)

        return Counted


def lan_address() -> str:
    """This machine's address in its network, as the routes say; its name where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: connecting a datagram socket only chooses a route
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _token_of(request: "Request") -> str:
    query: Any = parse_qs(urlsplit(request.path).query).get("token")
    if query:
        return str(query[0])
    bearer: str = request.headers.get("Authorization", "")
    if bearer.startswith("Bearer "):
        return bearer.removeprefix("Bearer ")
    try:
        cookies = SimpleCookie(request.headers.get("Cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _is_ours(name: str) -> bool:
    """Whether a Host names this machine: an address, or its own name."""
    own = socket.gethostname().lower()
    if name.lower() in (*LOOPBACK, own, own.partition(".")[0], f"{own.partition('.')[0]}.local"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
