"""What `data fix` moves aside of a folder of training pictures, and what it leaves."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cyclegan_edge.cli import app
from cyclegan_edge.images import write_image
from cyclegan_edge.train.data.check import check
from cyclegan_edge.train.data.fix import fix


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two folders of train and one of test, three pictures each, all different."""
    folder = tmp_path / "data"
    for name in ("trainA", "trainB", "testA"):
        for number in range(3):
            write_image(folder / name / f"{number}.png", rng.integers(0, 256, (10, 12, 3), dtype=np.uint8))
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_leaks_duplicates_and_damaged_files_are_moved_and_none_is_lost(data: Path) -> None:
    shutil.copy(data / "trainA" / "0.png", data / "testA" / "leak.png")
    shutil.copy(data / "trainB" / "1.png", data / "trainB" / "again.png")
    (data / "trainB" / "broken.jpg").write_bytes(b"no picture")
    before = files(data)

    moved = fix(check(data))

    assert {str(one.file.relative_to(data)): one.why for one in moved} == {
        "testA/leak.png": "is trainA/0.png again",
        "trainB/again.png": "is trainB/1.png again",
        "trainB/broken.jpg": "cannot be read",
    }
    assert sorted(name.removeprefix("aside/") for name in files(data)) == before
    assert not check(data).problems
    assert not check(data).duplicates
    assert fix(check(data)) == ()


def test_a_picture_in_both_domains_stays_and_is_named(data: Path) -> None:
    for name in ("trainB", "testA"):
        shutil.copy(data / "trainA" / "0.png", data / name / "both.png")

    result = CliRunner().invoke(app, ["data", "fix", str(data)])

    assert result.exit_code == 0
    assert files(data / "aside") == ["testA/both.png"]
    assert "1 files were moved" in result.output
    assert "trainA/0.png, trainB/both.png" in result.output


def test_a_name_that_lies_aside_already_is_kept(data: Path) -> None:
    for _ in range(2):
        (data / "trainA" / "x.jpg").write_bytes(b"no picture")
        fix(check(data))

    assert files(data / "aside") == ["trainA/x-2.jpg", "trainA/x.jpg"]


def test_a_sound_folder_is_left_alone(data: Path) -> None:
    result = CliRunner().invoke(app, ["data", "fix", str(data)])

    assert "0 files were moved." in result.output
    assert not (data / "aside").exists()
