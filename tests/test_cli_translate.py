import errno
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cyclegan_edge.cli import app, main
from cyclegan_edge.contract import Translate
from cyclegan_edge.errors import SinkError
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.metrics import psnr
from cyclegan_edge.postprocess import resize_back
from cyclegan_edge.preprocess import resize


@pytest.fixture
def pictures(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with a.png, b.jpg and a text file that calls itself c.png."""
    folder = tmp_path / "pictures"
    for name in ["a.png", "b.jpg"]:
        write_image(folder / name, rng.integers(0, 256, (30, 50, 3), dtype=np.uint8))
    (folder / "c.png").write_text("no picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """12 frames of 64x48 at 24 per second, each of one grey."""
    path = tmp_path / "clips" / "ramp.avi"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 24, (64, 48))
    for level in range(0, 240, 20):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def translate(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["translate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_a_folder_is_translated_and_unreadable_files_are_named(
    tiny_bundle: Path, tiny_translated: Translate, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    said = translate(tiny_bundle, pictures, "--out", out, "--fit", "native", code=1)

    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.jpg"]
    np.testing.assert_array_equal(read_image(out / "a.png"), tiny_translated(read_image(pictures / "a.png")[None])[0])
    assert "ncnn was passed over" in said
    assert "Translating with " in said
    assert f"{pictures / 'c.png'} is damaged, or none of JPEG, PNG" in said
    assert "1 files are no pictures or videos that are read: 1 .txt" in said
    assert "2 of 3 files translated, 0 were done before, 1 failed" in said
    assert str(out) in said


def test_the_format_and_the_quality_of_pictures_can_be_chosen(
    tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    for quality in (30, 90):
        wanted = ("--format", "webp", "--quality", quality)
        translate(tiny_bundle, pictures / "a.png", pictures / "b.jpg", "--out", tmp_path / str(quality), *wanted)

    small, large = (sorted((tmp_path / quality).iterdir()) for quality in ("30", "90"))
    assert [path.name for path in small] == ["a.webp", "b.webp"]
    assert all(path.read_bytes().startswith(b"RIFF") for path in small)
    assert small[0].stat().st_size < large[0].stat().st_size


def test_a_video_keeps_its_size_rate_and_length(
    tiny_bundle: Path, tiny_translated: Translate, video: Path, tmp_path: Path
) -> None:
    translate(tiny_bundle, video, "--out", tmp_path / "out")

    capture = cv2.VideoCapture(str(tmp_path / "out" / "ramp.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 24
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 12
    greys = [np.full((1, 32, 44, 3), level, np.uint8) for level in range(0, 240, 20)]  # as the network sees the frames
    for frame, grey in zip(frames, greys, strict=True):
        red_first = frame[..., ::-1].mean(axis=(0, 1))
        np.testing.assert_allclose(red_first, tiny_translated(grey).mean(axis=(0, 1, 2)), atol=8)  # the codec's


def test_without_pyav_it_is_said_what_a_video_loses(
    tiny_bundle: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("streams", "encode"):
        monkeypatch.setattr(f"cyclegan_edge.video.{module}.has_av", lambda: False)

    said = translate(tiny_bundle, video, "--out", tmp_path / "out")

    assert "lose their sound" in said
    assert "pip install 'cyclegan-edge[video]'" in said
    assert "1 of 1 files translated" in said


def test_a_cut_video_fails_alone(tiny_bundle: Path, video: Path, pictures: Path, tmp_path: Path) -> None:
    (video.parent / "cut.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))

    said = translate(tiny_bundle, video.parent, pictures / "a.png", "--out", tmp_path / "out", code=1)

    assert "warning: failed, " in said
    assert "cut.mp4 holds no video" in said
    assert "2 of 3 files translated" in said


def test_nothing_translated_is_an_error(
    tiny_bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cyclegan-edge", "translate", str(tiny_bundle), str(pictures / "c.png")])

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    assert capsys.readouterr().err == "error: None of the 1 files could be translated; the reasons are above.\n"


def test_what_is_done_is_not_done_again_until_its_source_changes(
    tiny_bundle: Path, pictures: Path, video: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (pictures / "c.png").unlink()
    translate(tiny_bundle, pictures, video, "--out", out)
    (out / "b.jpg").unlink()
    os.utime(pictures / "a.png", (1_000_000, 1_000_000))

    again = translate(tiny_bundle, pictures, video, "--out", out)
    third = translate(tiny_bundle, pictures, video, "--out", out)

    assert "2 of 3 files translated, 1 were done before, 0 failed" in again
    assert "0 of 3 files translated, 3 were done before, 0 failed" in third
    assert int((out / "a.png").stat().st_mtime) == 1_000_000


def test_a_result_that_cannot_be_written_fails_alone(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    out, long = tmp_path / "out", "n" * 251
    (pictures / "a.png").rename(pictures / f"{long}.png")
    for name in ("c.png", "d.png"):
        write_image(pictures / name, np.zeros((8, 8, 3), np.uint8))
    (out / "d.webp").mkdir(parents=True)

    same = translate(tiny_bundle, pictures, "--out", tmp_path / "same")
    as_webp = translate(tiny_bundle, pictures, "--out", out, "--format", "webp", code=1)

    assert "4 of 4 files translated, 0 were done before, 0 failed" in same
    assert "2 of 4 files translated, 0 were done before, 2 failed" in as_webp
    assert f"{long}.webp cannot be written (File name too long)" in as_webp
    assert "d.webp cannot be written (Is a directory)" in as_webp


def test_a_full_disk_ends_the_command(
    tiny_bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(SinkError, match=r"a\.png cannot be written \(No space left on device\)"):
        translate(tiny_bundle, pictures, "--out", tmp_path / "out")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SinkError, match="cannot be written"):
        translate(tmp_path / "no model", pictures, "--out", tmp_path / "file")


def test_a_name_that_is_not_utf_8_costs_no_other(tiny_bundle: Path, pictures: Path) -> None:
    Path(os.fsdecode(os.fsencode(pictures) + b"/\xff[red].png")).write_bytes(b"no picture")
    (pictures / "c.png").unlink()
    command = [sys.executable, "-m", "cyclegan_edge", "translate", str(tiny_bundle), str(pictures), "--out", "out[/]"]
    english = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as in the locale en_US.UTF-8

    done = subprocess.run(command, cwd=pictures, env=english, capture_output=True, text=True, check=False)

    assert "\\udcff[red].png is damaged" in done.stdout
    assert "2 of 3 files translated, 0 were done before, 1 failed; see out[/]." in done.stdout.replace("\n", " ")
    assert (done.returncode, done.stderr) == (1, "")


def test_shares_in_processes_of_their_own_make_everything_once(
    tiny_bundle: Path, rng: np.random.Generator, tmp_path: Path
) -> None:
    for number in range(12):
        write_image(tmp_path / "photos" / str(number % 3) / "a.png", rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        write_image(tmp_path / "photos" / f"{number}.png", rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    rest = [str(tiny_bundle), str(tmp_path / "photos"), "--recursive", "--out", str(tmp_path / "out")]

    command = [sys.executable, "-m", "cyclegan_edge", "translate", *rest, "--engine", "onnxruntime", "--shard"]
    started = [
        subprocess.Popen([*command, share], stdout=subprocess.PIPE, text=True) for share in ("1/2", "2/2", "2/2")
    ]
    said = [(process.communicate()[0], process.returncode) for process in started]

    assert [code for _, code in said] == [0, 0, 0]
    assert "0 of 15 files translated, 15 were done before, 0 failed" in translate(*rest)
    assert not list((tmp_path / "out").rglob("*.partial*"))


def test_a_share_that_holds_no_file_is_no_error(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    said = [translate(tiny_bundle, pictures / "a.png", "--out", tmp_path / "out", "--shard", f"{i}/2") for i in (1, 2)]

    assert sorted("1 of 1 files translated" in line for line in said) == [False, True]
    assert sorted("0 of 0 files translated" in line for line in said) == [False, True]


def test_awkward_photographs_are_translated(
    tiny_bundle: Path, tiny_translated: Translate, test_data: Path, tmp_path: Path
) -> None:
    said = translate(tiny_bundle, test_data / "photos", "--out", tmp_path / "out", "--size", 64, code=1)

    assert "18 of 20 files translated, 0 were done before, 2 failed" in said
    for result in sorted((tmp_path / "out").glob("[!.]*")):
        assert read_image(result).shape == read_image(test_data / "photos" / result.name).shape
    photo = read_image(test_data / "photos" / "me_1x1.jpg")
    expected = resize_back(tiny_translated(resize(photo, (64, 64))[None]), *photo.shape[:2])
    assert psnr(read_image(tmp_path / "out" / "me_1x1.jpg"), expected) > 30
