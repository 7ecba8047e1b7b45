"""What C libraries print about damaged pictures belongs into our sentences, or nowhere."""

import ctypes
import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyclegan_edge import _core
from cyclegan_edge.errors import ImageError
from cyclegan_edge.images import decode_image, inspect_image, write_image

PRINTING_THREADS = """
import ctypes, threading
from cyclegan_edge import _core

libc = ctypes.CDLL(None)

def say(text):
    libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))

_core.start_hearing()
other = threading.Thread(target=say, args=(b"of another thread\\n",))
other.start()
other.join()
say(b"of this thread\\n")
heard = _core.stop_hearing()
say(b"afterwards\\n")
print(heard, end="")
"""


def damaged(picture: Image.Image, kind: str, at: int, **options: object) -> bytes:
    """A file with 40 wrong bytes at one hundred-and-so-many-th of its length."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    data = bytearray(stream.getvalue())
    start = len(data) * at // 100
    data[start : start + 40] = bytes(range(40))
    return bytes(data)


@pytest.fixture
def noise(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8))


def say(text: bytes) -> None:
    libc = ctypes.CDLL(None)
    libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))


def test_a_jpeg_that_decodes_in_spite_of_damage_says_so(noise: Image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    inspected = inspect_image(damaged(noise, "JPEG", 50), "spoilt.jpg")

    assert inspected.rgb.shape == (64, 80, 3)
    assert inspected.damage.startswith("Corrupt JPEG data: ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("compression", "reason"),
    [
        ("tiff_lzw", "LZWDecode: Not enough data at scanline 0"),
        ("tiff_adobe_deflate", "ZIPDecode: Decoding error at scanline 0"),
    ],
)
def test_the_error_says_what_libtiff_would_have_printed(
    compression: str, reason: str, noise: Image.Image, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ImageError, match=rf"^spoilt\.tif cannot be decoded \({reason}.*\); copy it again"):
        decode_image(damaged(noise, "TIFF", 50, compression=compression), "spoilt.tif")

    assert capfd.readouterr() == ("", "")


def test_a_command_says_everything_in_its_own_words(noise: Image.Image, tmp_path: Path) -> None:
    for name in ("trainA", "trainB"):
        (tmp_path / name).mkdir()
        for number in range(2):
            write_image(tmp_path / name / f"{number}.png", np.asarray(noise.rotate(90 * number + (name == "trainB"))))
    (tmp_path / "trainA" / "spoilt.jpg").write_bytes(damaged(noise, "JPEG", 50))
    (tmp_path / "trainA" / "spoilt.tif").write_bytes(damaged(noise, "TIFF", 50, compression="tiff_lzw"))
    odd = bytearray(damaged(noise, "TIFF", 50, compression="tiff_lzw"))
    many = odd.find(b"\x15\x01\x03\x00")  # SamplesPerPixel, of which Pillow's logger tells
    odd[many + 8] = 94
    (tmp_path / "trainA" / "odd.tif").write_bytes(odd)
    command = [sys.executable, "-m", "cyclegan_edge", "data", "check", str(tmp_path), "--size", "8"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    said = " ".join(done.stdout.split())
    assert "warning: trainA/spoilt.jpg is damaged, though it can be read (Corrupt JPEG data: " in said
    assert "spoilt.tif cannot be decoded (LZWDecode: " in said
    assert "odd.tif" in said
    assert (done.returncode, done.stderr) == (1, "")


def test_what_other_threads_print_is_shown_as_ever() -> None:
    done = subprocess.run([sys.executable, "-c", PRINTING_THREADS], capture_output=True, text=True, check=True)

    assert done.stdout == "of this thread\n"
    assert done.stderr == "of another thread\nafterwards\n"


def test_many_threads_hear_only_themselves() -> None:
    heard: dict[int, str] = {}
    start = threading.Barrier(8)

    def listen(number: int) -> None:
        start.wait()
        for _ in range(200):
            _core.start_hearing()
            say(b"%d\n" % number)
            heard[number] = heard.get(number, "") + _core.stop_hearing()

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert heard == {number: f"{number}\n" * 200 for number in range(8)}


def test_hearing_ends_once_and_keeps_a_thousand_bytes() -> None:
    _core.start_hearing()
    for _ in range(30):
        say(b"x" * 100)

    assert _core.stop_hearing() == "x" * 1000
    assert _core.stop_hearing() == ""
