"""The teacher's pictures are made once, kept, gone on with after a stop, and made again for another teacher."""

import os
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.contract import Batch
from cyclegan_edge.errors import DataError, SinkError
from cyclegan_edge.images import write_image
from cyclegan_edge.train.distill import kept as module
from cyclegan_edge.train.distill.kept import KeptPictures, Pixels
from cyclegan_edge.train.distill.teacher import TaughtPictures, keep_real_pictures, sizes_of, teach_pictures

SIZES = (16, 20)


class Teacher:
    """Darkens, and counts what it is given; fails at the call number `fails`."""

    def __init__(self, fails: int | None = None) -> None:
        self.calls, self._fails = 0, fails

    def __call__(self, pictures: Batch) -> Batch:
        self.calls += 1
        if self.calls == self._fails:
            raise KeyboardInterrupt
        return pictures // 2


@pytest.fixture
def paths(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    paths = [tmp_path / "pictures" / f"{number}.png" for number in range(5)]
    for path in paths:
        write_image(path, rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    return paths


def test_they_are_made_once_at_both_sizes(paths: list[Path], tmp_path: Path) -> None:
    teacher = Teacher()

    taught = teach_pictures(tmp_path, teacher, "one", paths, SIZES)
    again = teach_pictures(tmp_path, teacher, "one", paths, SIZES)

    assert [pixels.shape for pixels in taught.sizes] == [(5, 2, 16, 16, 3), (5, 2, 20, 20, 3)]
    assert all(np.array_equal(pixels[:, 0] // 2, pixels[:, 1]) for pixels in taught.sizes)
    assert all(np.array_equal(one, other) for one, other in zip(taught.sizes, again.sizes, strict=True))
    assert teacher.calls == 2 * 5


def test_after_a_stop_they_go_on_with_the_next(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        teach_pictures(tmp_path, Teacher(fails=6), "one", paths, SIZES)
    assert KeptPictures(tmp_path / "teacher", "one", paths, SIZES, depth=2).open() is None
    teacher = Teacher()

    taught = teach_pictures(tmp_path, teacher, "one", paths, SIZES)

    assert teacher.calls == 2 * 3, "two of the five were there"
    assert all(np.array_equal(pixels[:, 0] // 2, pixels[:, 1]) for pixels in taught.sizes)


@pytest.mark.parametrize("change", ["teacher", "picture", "sizes", "truncated", "note"])
def test_they_are_made_again_when_anything_they_depend_on_changed(
    paths: list[Path], tmp_path: Path, change: str
) -> None:
    teach_pictures(tmp_path, Teacher(), "one", paths, SIZES)
    identity, sizes, teacher = "one", SIZES, Teacher()
    match change:
        case "teacher":
            identity = "two"
        case "picture":
            os.utime(paths[2], ns=(1, 1))
        case "sizes":
            sizes = (16, 24)
        case "truncated":
            os.truncate(tmp_path / "teacher" / "16.pixels", 100)
        case "note":
            (tmp_path / "teacher" / "made.json").write_text("[[")

    teach_pictures(tmp_path, teacher, identity, paths, sizes)

    assert teacher.calls == 2 * 5


def test_a_damaged_picture_is_named(paths: list[Path], tmp_path: Path) -> None:
    paths[1].write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"1\.png.*data fix"):
        teach_pictures(tmp_path, Teacher(), "one", paths, SIZES)


def test_one_picture_is_too_few_and_a_full_disk_is_said_before_anything_is_made(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Teacher()
    with pytest.raises(DataError, match="1 pictures"):
        teach_pictures(tmp_path, teacher, "one", paths[:1], SIZES)
    monkeypatch.setattr(module, "_ROOM", 1 << 62)
    with pytest.raises(SinkError, match="free some space"):
        teach_pictures(tmp_path, teacher, "one", paths, SIZES)

    assert teacher.calls == 0


def test_real_pictures_come_in_their_share_of_the_steps_and_depend_on_nothing_but_the_seed_and_its_number(
    paths: list[Path], tmp_path: Path
) -> None:
    real = keep_real_pictures(tmp_path, paths, 20)
    taught = teach_pictures(tmp_path, Teacher(), "one", paths, SIZES)
    both = TaughtPictures(taught.sizes, real)

    def drawn_again() -> Pixels:
        pixels = both.real_batch(3, 7, count=2, crop=16, share=1.0)
        assert pixels is not None
        return pixels

    drawn = [both.real_batch(3, step, count=2, crop=16, share=0.25) for step in range(400)]

    assert real.shape == (5, 1, 20, 20, 3)
    assert 70 < sum(one is not None for one in drawn) < 130
    assert drawn_again().shape == (2, 16, 16, 3)
    assert np.array_equal(drawn_again(), drawn_again())
    assert taught.real_batch(3, 7, count=2, crop=16, share=1.0) is None


def test_the_larger_size_is_one_that_the_teacher_takes() -> None:
    assert sizes_of(256, 4) == (256, 288)
    assert sizes_of(256, 256) == (256, 512)
    assert sizes_of(64, 4) == (64, 72)
