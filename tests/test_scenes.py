import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from cyclegan_edge.errors import DataError
from cyclegan_edge.scenes import Season, render, write_dataset
from cyclegan_edge.scenes.camera import Camera
from cyclegan_edge.scenes.landscape import MATERIALS, Landscape
from cyclegan_edge.scenes.palette import palette

WORLDS = range(12)
Image = npt.NDArray[np.uint8]


def read(path: Path) -> Image:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture[..., ::-1], np.uint8)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def edges(picture: Image) -> npt.NDArray[np.float32]:
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), 1.0).astype(np.float32)
    return np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)).astype(np.float32)


def difference(one: Image, other: Image) -> float:
    return float(np.abs(one.astype(np.float32) - other).mean())


@pytest.mark.parametrize("size", [(32, 32), (96, 200), (129, 97), (360, 640)])
def test_a_picture_has_the_size_asked_for(size: tuple[int, int]) -> None:
    picture = render(0, "summer", size=size)

    assert picture.shape == (*size, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous


@pytest.mark.parametrize("season", ["summer", "winter"])
def test_the_same_arguments_give_the_same_bytes(season: Season) -> None:
    one = Camera(Landscape.from_seed(5), (96, 128)).picture(season)

    other = Camera(Landscape.from_seed(5), (96, 128))
    other.picture("summer")

    np.testing.assert_array_equal(one, other.picture(season))
    np.testing.assert_array_equal(one, render(5, season, size=(96, 128)))


def test_another_process_gives_the_same_bytes() -> None:
    code = (
        "import hashlib; from cyclegan_edge.scenes import render; "
        "print(hashlib.sha256(render(7, 'winter', size=(64, 64)).tobytes()).hexdigest())"
    )

    answers = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}

    assert len(answers) == 1


def test_every_seed_is_another_world() -> None:
    pictures = [render(seed, "summer", size=(64, 64)) for seed in WORLDS]

    assert all(difference(a, b) > 8 for i, a in enumerate(pictures) for b in pictures[:i])


def test_nothing_is_imported_that_a_small_device_lacks() -> None:
    code = "import sys, cyclegan_edge.scenes; print('torch' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout

    assert answer.strip() == "False"


def test_the_seasons_differ_much() -> None:
    errors = [
        np.mean((render(seed, "summer", size=(96, 96)).astype(float) - render(seed, "winter", size=(96, 96))) ** 2)
        for seed in WORLDS
    ]

    psnr = 10 * np.log10(255**2 / np.array(errors))

    assert 8 < psnr.mean() < 13


def test_the_seasons_share_their_outlines() -> None:
    agreement, strangers = [], []
    for seed in WORLDS:
        summer, winter = (render(seed, season, size=(128, 128)) for season in ("summer", "winter"))
        other = render(seed + 100, "winter", size=(128, 128))
        agreement.append(np.corrcoef(edges(summer).ravel(), edges(winter).ravel())[0, 1])
        strangers.append(np.corrcoef(edges(summer).ravel(), edges(other).ravel())[0, 1])

    assert np.mean(agreement) > 0.5
    assert np.mean(agreement) > np.mean(strangers) + 0.25


@pytest.mark.parametrize("season", ["summer", "winter"])
def test_no_two_materials_have_the_same_colour(season: Season) -> None:
    colours = np.sqrt(palette(Landscape.from_seed(0), season).ground[:, :3]) * 255

    apart = [
        (float(np.abs(a - b).sum()), MATERIALS[i], MATERIALS[j])
        for i, a in enumerate(colours)
        for j, b in enumerate(colours[:i])
    ]

    assert min(apart)[0] > 7, min(apart)


def test_a_data_set_is_unpaired_but_for_its_truth(tmp_path: Path) -> None:
    written = list(write_dataset(tmp_path / "set", train=3, test=2, size=48, seed=4))

    names = {folder: sorted(path.name for path in (tmp_path / "set" / folder).iterdir())
             for folder in ("trainA", "trainB", "testA", "testB", "truthB")}  # fmt: skip
    assert names == {
        "trainA": ["scene_0001.png", "scene_0002.png", "scene_0003.png"],
        "trainB": ["scene_0001.png", "scene_0002.png", "scene_0003.png"],
        "testA": ["scene_0001.png", "scene_0002.png"],
        "testB": ["scene_0001.png", "scene_0002.png"],
        "truthB": ["scene_0001.png", "scene_0002.png"],
    }
    assert len(set(written)) == 12
    pictures = files(tmp_path / "set")
    assert len(set(pictures.values())) == 12
    for name in names["testA"]:
        summer, truth, other = (edges(read(tmp_path / "set" / f / name)) for f in ("testA", "truthB", "testB"))
        same, stranger = (np.corrcoef(summer.ravel(), winter.ravel())[0, 1] for winter in (truth, other))
        assert same > stranger


def test_the_truth_is_the_winter_of_the_same_world(tmp_path: Path) -> None:
    list(write_dataset(tmp_path, train=1, test=2, size=48, seed=3))

    # folder number 2 of seed 3: the numbering is part of what makes a data set reproducible
    world = (3 * 4 + 2) * 100_000 + 1

    np.testing.assert_array_equal(read(tmp_path / "testA" / "scene_0002.png"), render(world, "summer", size=(48, 48)))
    np.testing.assert_array_equal(read(tmp_path / "truthB" / "scene_0002.png"), render(world, "winter", size=(48, 48)))


def test_the_same_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        list(write_dataset(tmp_path / name, train=2, test=1, size=32, seed=seed))

    one, two, three = (files(tmp_path / name) for name in ("one", "two", "three"))

    assert one == two
    assert not set(one.values()) & set(three.values())


def test_pictures_come_one_by_one_and_no_half_one_is_left(tmp_path: Path) -> None:
    pictures = write_dataset(tmp_path, train=2, test=1, size=32)

    first = next(pictures)

    assert first == tmp_path / "trainA" / "scene_0001.png"
    assert list(files(tmp_path)) == ["trainA/scene_0001.png"]


@pytest.mark.parametrize(
    ("wrong", "facts"),
    [
        ({"train": 0}, "train is 0, .* 1 to 100000"),
        ({"test": 100_001}, "test is 100001, .* 1 to 100000"),
        ({"size": 31}, "size is 31x31 .* 32 to 2048"),
        ({"seed": -1}, "seed is -1, .* 0 or more"),
    ],
)
def test_a_data_set_out_of_bounds_is_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, int], facts: str
) -> None:
    with pytest.raises(DataError, match=facts):
        write_dataset(tmp_path / "set", **wrong)

    assert not (tmp_path / "set").exists()


def test_pictures_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")

    with pytest.raises(DataError, match="is not an empty folder"):
        write_dataset(tmp_path)

    assert list(files(tmp_path)) == ["holiday.jpg"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_bytes(b"mine")

    with pytest.raises(DataError, match="set is not an empty folder"):
        write_dataset(tmp_path / "set")


def test_a_picture_out_of_bounds_is_refused() -> None:
    with pytest.raises(DataError, match=r"16x64 px \(height x width\), .* 32 to 2048"):
        render(0, "summer", size=(16, 64))
    with pytest.raises(DataError, match="seed is -3"):
        render(-3, "summer")
