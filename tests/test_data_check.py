"""What a folder of training pictures holds, and what should be fixed in it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cyclegan_edge.cli import app
from cyclegan_edge.errors import DataError
from cyclegan_edge.images import write_image
from cyclegan_edge.train.data import check as module
from cyclegan_edge.train.data.check import FolderCheck, check


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Four folders of two pictures each, 20x10 to 27x17, with nothing wrong."""
    folder = tmp_path / "data"
    for number, name in enumerate(module.FOLDERS):
        (folder / name).mkdir(parents=True)
        for one in range(2):
            side = 2 * number + one
            picture = rng.integers(0, 256, (10 + side, 20 + side, 3), dtype=np.uint8)
            write_image(folder / name / f"{one}.png", picture)
    return folder


def folder_of(data: Path, name: str) -> FolderCheck:
    return next(folder for folder in check(data, size=10).folders if folder.name == name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", "check", *arguments], env={"COLUMNS": "80"})


def test_a_sound_folder_has_counts_sizes_and_nothing_to_fix(data: Path) -> None:
    heard: list[tuple[int, int]] = []

    found = check(data, size=12, on_progress=lambda done, total: heard.append((done, total)))

    assert [folder.name for folder in found.folders] == ["trainA", "trainB", "testA", "testB"]
    assert [len(folder.pictures) for folder in found.folders] == [2, 2, 2, 2]
    assert [folder.small for folder in found.folders] == [2, 0, 0, 0]
    assert found.folders[0].sizes == ((20, 10), (20, 10), (21, 11))
    assert found.problems == ()
    assert found.warnings == ("trainA holds 2 smaller than 12 px; they are enlarged.",)
    assert heard[-1] == (8, 8)


def test_damaged_files_are_named_with_the_reason(data: Path) -> None:
    whole = (data / "trainA" / "0.png").read_bytes()
    (data / "trainA" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (data / "trainA" / "text.jpg").write_bytes(b"no picture")

    folder = folder_of(data, "trainA")

    cut, text = folder.corrupt
    assert (cut.path.name, text.path.name) == ("cut.png", "text.jpg")
    assert "cut.png is truncated" in cut.reason
    assert check(data).problems == (cut.reason, text.reason)
    assert len(folder.pictures) == 2


def test_grey_is_grey_in_one_channel_and_in_three(data: Path, rng: np.random.Generator) -> None:
    grey = rng.integers(0, 256, (30, 30), dtype=np.uint8)
    almost = np.stack([grey, grey, grey ^ 1], axis=2)
    cv2.imwrite(str(data / "trainA" / "one.png"), grey)
    write_image(data / "trainA" / "three.png", np.stack([grey[::-1]] * 3, axis=2))
    write_image(data / "trainA" / "almost.png", almost)

    folder = folder_of(data, "trainA")

    assert [picture.path.name for picture in folder.pictures if picture.grey] == ["one.png", "three.png"]


def test_transparent_is_what_white_shows_through(data: Path, rng: np.random.Generator) -> None:
    clear = rng.integers(0, 255, (12, 12, 4), dtype=np.uint8)
    opaque = clear.copy()
    opaque[:, :, 3] = 255
    cv2.imwrite(str(data / "trainA" / "clear.png"), clear)
    cv2.imwrite(str(data / "trainA" / "opaque.png"), opaque)

    folder = folder_of(data, "trainA")

    assert [picture.path.name for picture in folder.pictures if picture.transparent] == ["clear.png"]


def test_the_same_pixels_are_the_same_picture_under_any_name_and_format(data: Path, rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    for name in ("x.png", "y.bmp", "z.tiff"):
        write_image(data / "trainB" / name, picture)
    write_image(data / "trainB" / "turned.png", picture.reshape(16, 12, 3))  # the same bytes in another shape

    found = check(data)

    assert [[path.name for path in group] for group in found.duplicates] == [["x.png", "y.bmp", "z.tiff"]]
    assert found.leaks == ()
    assert found.problems == ()


@pytest.mark.parametrize(("source", "target"), [("trainA", "testA"), ("trainB", "testB"), ("trainA", "trainB")])
def test_a_picture_on_both_sides_is_a_leak(data: Path, source: str, target: str) -> None:
    shutil.copy(data / source / "0.png", data / target / "again.png")

    found = check(data)

    assert [[str(path.relative_to(data)) for path in group] for group in found.leaks] == [
        [f"{source}/0.png", f"{target}/again.png"]
    ]
    assert found.duplicates == ()
    assert f"{source}/0.png, {target}/again.png are the same picture in different folders" in found.problems[0]


def test_fewer_than_two_readable_pictures_to_train_on_is_a_problem(data: Path) -> None:
    (data / "trainA" / "0.png").unlink()
    shutil.rmtree(data / "trainB")

    problems = check(data).problems

    assert [problem.split(",")[0] for problem in problems] == [
        "trainA holds 1 readable pictures",
        "trainB holds 0 readable pictures",
    ]


def test_files_that_nothing_reads_are_a_warning(data: Path) -> None:
    (data / "testA" / "photo.heic").touch()
    (data / "testA" / "more").mkdir()
    (data / "testA" / ".DS_Store").touch()

    assert (
        "testA holds 2 files or folders that nothing reads (1 without a suffix, 1 .heic)."
        in check(data, size=1).warnings
    )


def test_a_folder_without_any_of_the_four_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder trainA"):
        check(tmp_path)


def test_the_exit_code_says_whether_something_should_be_fixed(data: Path) -> None:
    sound = run(str(data), "--size", "1")
    warned, strict = run(str(data)), run(str(data), "--strict")
    (data / "testB" / "broken.png").write_bytes(b"no picture")
    broken = run(str(data), "--size", "1")

    assert [result.exit_code for result in (sound, warned, strict, broken)] == [0, 0, 1, 1]
    assert "Nothing needs fixing." in sound.output
    assert "warning: trainA holds 2 smaller than 256 px" in warned.output
    assert "broken.png" in broken.output


def test_brackets_in_names_are_printed_as_they_are(data: Path, tmp_path: Path) -> None:
    (tmp_path / "o[").mkdir()
    odd = data.rename(tmp_path / "o[" / "]")  # what rich would take for the end of a style
    (odd / "trainA" / "[final].png").write_bytes(b"no picture")

    said = run(str(odd)).output.replace("\n", "")

    assert f"{odd / 'trainA' / '[final].png'} is damaged" in said
    assert f"cyclegan-edge data fix {odd}." in said


def test_the_table_is_readable_in_80_columns(data: Path, rng: np.random.Generator) -> None:
    write_image(data / "testB" / "large.png", rng.integers(0, 256, (1080, 1920, 3), dtype=np.uint8))

    lines = run(str(data)).output.splitlines()

    table = [line for line in lines if "│" in line or "┃" in line]
    assert all(len(line) <= 80 for line in table)
    assert all(name in table[0] for name in module.FOLDERS)
    assert "1920x1080" in "".join(table)
    assert "…" not in "".join(lines)


def test_the_json_file_holds_everything_with_relative_names(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "trainA" / "0.png", data / "testA" / "leak.png")
    (data / "trainB" / "broken.png").write_bytes(b"no picture")

    result = run(str(data), "--json", str(tmp_path / "report.json"))

    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert result.exit_code == 1
    assert written["schema"] == 1
    assert written["leaks"] == [["trainA/0.png", "testA/leak.png"]]
    assert written["folders"]["trainB"]["corrupt"][0]["file"] == "trainB/broken.png"
    assert written["folders"]["testA"]["sizes"] == {"smallest": [20, 10], "median": [24, 14], "largest": [25, 15]}
    assert len(written["problems"]) == 2


def test_checking_and_packing_need_no_torch(data: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from cyclegan_edge.cli import app
for command in (["check", {str(data)!r}], ["pack", {str(data)!r}, "--out", {str(tmp_path / "out")!r}]):
    assert CliRunner().invoke(app, ["data", *command]).exit_code == 0
assert "torch" not in sys.modules
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_horse2zebra_has_one_leak_and_pairs_of_equal_pictures(test_data: Path) -> None:
    found = check(test_data / "horse2zebra")

    assert [len(folder.pictures) for folder in found.folders] == [1067, 1334, 120, 140]
    assert [len(folder.grey) for folder in found.folders] == [7, 59, 0, 5]  # and three that a profile tints
    assert [[path.name for path in group] for group in found.leaks] == [["n02381460_3811.jpg", "n02381460_1160.jpg"]]
    assert len(found.duplicates) == 24
