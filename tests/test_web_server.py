"""What keeps a page from opening, and a page over TLS."""

import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("websockets", reason="the extra [web] is not installed")
pytest.importorskip("segno", reason="the extra [web] is not installed")

from cyclegan_edge.errors import SinkError
from cyclegan_edge.video.timings import Recent, Stages
from cyclegan_edge.web import server
from cyclegan_edge.web.server import check_web, open_page

ABOUT: dict[str, str] = {}
RECENT = Recent(frames=9, dropped=4, fps=25.0, median=Stages(1, 2, 30, 4, 5, 61))
WAIT = 60  # s


def test_https_with_a_certificate_of_one_s_own(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -out {chain} -keyout {key}"
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl")

    with open_page("127.0.0.1", 0, about=ABOUT, stats=lambda: RECENT, certificate=(chain, key)) as page:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(page.url + "/stats.json", timeout=WAIT, context=trusting) as answer:
            assert answer.status == 200
        assert page.url.startswith("https://")


def test_a_certificate_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_text("no certificate")

    with pytest.raises(SinkError, match="give a PEM certificate and its key"):
        open_page(
            "127.0.0.1",
            0,
            about=ABOUT,
            stats=lambda: RECENT,
            certificate=(tmp_path / "chain.pem", tmp_path / "chain.pem"),
        ).__enter__()


def test_a_taken_port_is_a_sentence() -> None:
    with open_page("127.0.0.1", 0, about=ABOUT, stats=lambda: RECENT) as page:
        port = int(page.url.rpartition(":")[2])
        with pytest.raises(SinkError, match=rf"127\.0\.0\.1:{port} \(.*\); choose another with --port"):
            open_page("127.0.0.1", port, about=ABOUT, stats=lambda: RECENT).__enter__()


def test_a_port_out_of_range_is_a_sentence() -> None:
    with pytest.raises(SinkError, match="ports go from 0 to 65535"):
        open_page("127.0.0.1", 70000, about=ABOUT, stats=lambda: RECENT).__enter__()


def test_a_missing_extra_is_named_with_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)

    with pytest.raises(SinkError, match=r"websockets and segno; add them with `pip install 'cyclegan-edge\[web\]'`"):
        check_web()
