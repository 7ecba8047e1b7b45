import math
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cyclegan_edge.errors import SourceError
from cyclegan_edge.video.clip import AvClip
from cyclegan_edge.video.frames import BgrPicture, Rendered
from cyclegan_edge.video.recorder import open_video

av = pytest.importorskip("av")

TIMES = [0, 33, 66, 400, 433, 1000, 1033]  # ms, of a camera that waits for light


def make(
    path: Path, *, size: tuple[int, int] = (64, 96), codec: str = "libx264", sound: str | None = None, aspect: int = 1
) -> Path:
    """A video whose top left quarter is white, at `TIMES`; a second of tone."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=30)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if codec == "libx264":
            stream.codec_context.time_base = Fraction(1, 1000)
        track: Any = output.add_stream(sound, rate=8000, layout="mono") if sound else None
        picture = np.zeros((*size, 3), np.uint8)
        picture[: size[0] // 2, : size[1] // 2] = 255
        for number, time in enumerate(TIMES):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = (time, Fraction(1, 1000)) if codec == "libx264" else (number, Fraction(1, 30))
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if track:
            tone = (np.sin(np.arange(8000) / 5) * 8000).astype(np.int16)
            heard = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            heard.rate, heard.pts, heard.time_base = 8000, 0, Fraction(1, 8000)
            output.mux(track.encode(heard))
            output.mux(track.encode(None))
    return path


def copied(path: Path, to: Path) -> Path:
    clip = AvClip(path)
    with open_video(to, size=clip.size, fps=clip.fps, clip=clip) as sink:
        while frame := clip.read():
            sink.show(Rendered(frame, frame.image, frame.image))
    clip.close()
    return to


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def pictures(path: Path) -> list[BgrPicture]:
    capture, read = cv2.VideoCapture(str(path)), []
    while (given := capture.read())[0]:
        read.append(np.asarray(given[1], np.uint8))
    return read


def test_times_pixel_aspect_and_the_bytes_of_the_sound_are_kept(tmp_path: Path) -> None:
    source = make(tmp_path / "phone.mp4", sound="aac", aspect=2)

    result = copied(source, tmp_path / "out.mp4")

    with av.open(str(result)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert video.sample_aspect_ratio == 2
        assert [round(frame.time * 1000) for frame in container.decode(video=0)] == TIMES
    assert len(packets(source)) > 5
    assert packets(result) == packets(source)


def test_sound_that_browsers_do_not_play_becomes_aac_of_its_length(tmp_path: Path) -> None:
    source = make(tmp_path / "camera.avi", codec="mjpeg", sound="pcm_s16le")

    result = copied(source, tmp_path / "out.mp4")

    with av.open(str(result)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert 8000 <= len(samples) < 8000 + 2048
    assert np.abs(samples).max() == pytest.approx(8000 / 32768, rel=0.2)


@pytest.mark.parametrize(
    ("turn", "matrix", "aspect"),
    [("right", (0, 1, -1, 0), 0.5), ("over", (-1, 0, 0, -1), 2), ("left", (0, -1, 1, 0), 0.5)],
)
def test_a_phone_that_was_held_another_way_is_turned_as_by_opencv(
    turn: str, matrix: tuple[int, int, int, int], aspect: float, tmp_path: Path
) -> None:
    data = bytearray(make(tmp_path / "phone.mp4", aspect=2).read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = tmp_path / f"{turn}.mp4"
    turned.write_bytes(data)

    clip = AvClip(turned)

    frame = clip.read()
    assert frame is not None
    np.testing.assert_array_equal(frame.image, pictures(turned)[0])
    assert clip.aspect == aspect
    clip.close()


@pytest.mark.parametrize("codec", ["mjpeg", "ffv1"])
def test_an_odd_side_keeps_every_pixel_and_gets_one_more(codec: str, tmp_path: Path) -> None:
    source = make(tmp_path / "odd.avi", size=(75, 101), codec=codec)

    result = copied(source, tmp_path / "out.mp4")

    (before, *_), (after, *_) = pictures(source), pictures(result)
    assert after.shape == (76, 102, 3)
    assert np.abs(after[:75, :101].astype(int) - before).mean() < 3


def test_what_is_left_of_a_damaged_clip_is_read(tmp_path: Path) -> None:
    data = make(tmp_path / "whole.avi", codec="mjpeg").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: (data.index(b"movi") + data.index(b"idx1")) // 2])

    clip = AvClip(cut)

    read = 0
    while clip.read():
        read += 1
    assert 0 < read < len(TIMES)
    assert clip.length == len(TIMES)
    clip.close()


@pytest.mark.parametrize("content", [b"", b"no video", bytes(1000)])
def test_what_holds_no_video_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)

    with pytest.raises(SourceError, match=r"a\.mp4 holds no video"):
        AvClip(tmp_path / "a.mp4")


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        track = output.add_stream("aac", rate=8000, layout="mono")
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        heard.rate, heard.pts = 8000, 0
        output.mux(track.encode(heard))
        output.mux(track.encode(None))

    with pytest.raises(SourceError, match=r"song\.mp4 holds no video"):
        AvClip(path)


def test_a_motion_jpeg_of_a_camera_keeps_its_length_and_sound(test_data: Path, tmp_path: Path) -> None:
    result = copied(test_data / "clips" / "me_MVI_4823_mjpeg.avi", tmp_path / "out.mp4")

    with av.open(str(result)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        assert math.isclose(container.duration / av.time_base, 2.6, abs_tol=0.03)
        assert container.streams.video[0].frames == 78
