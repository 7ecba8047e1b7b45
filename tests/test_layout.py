from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.errors import ConfigError, DataError
from cyclegan_edge.images import write_image
from cyclegan_edge.train.data.layout import find_folder, require_folder


def fill(data: Path, *folders: str) -> Path:
    for folder in folders:
        for number in range(2):
            write_image(data / folder / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
    return data


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("trainA", "trainB"),
        ("TrainA", "TRAINB"),
        ("train/A", "train/B"),
        ("A/train", "B/train"),
        ("a", "b"),
        ("summer", "winter"),
        ("train/summer", "train/winter"),
        ("trainA/img", "trainB/img"),
        ("horse2zebra/trainA", "horse2zebra/trainB"),
        ("photos/2024/summer/img", "photos/2024/winter"),
    ],
)
def test_the_usual_ways_to_arrange_two_domains_are_found(a: str, b: str, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", a, b)

    assert [find_folder(data, name) for name in ("trainA", "trainB")] == [data / a, data / b]
    assert find_folder(data, "testA") is None


@pytest.mark.parametrize("a", ["testA", "test/A", "A/test", "TESTA"])
def test_test_pictures_are_found_in_the_same_ways(a: str, tmp_path: Path) -> None:
    data = fill(tmp_path, "trainA", "trainB", a)

    assert find_folder(data, "testA") == data / a
    assert find_folder(data, "testB") is None


def test_named_domains_are_taken_of_many(tmp_path: Path) -> None:
    data = fill(tmp_path, "autumn", "summer", "winter", "test/winter")

    assert find_folder(data, "trainA") is None
    assert find_folder(data, "trainA", "winter,summer") == data / "winter"
    assert find_folder(data, "trainB", "winter,summer") == data / "summer"
    assert find_folder(data, "testA", "winter,summer") == data / "test" / "winter"


def test_half_a_pair_is_no_pair_with_its_test_pictures(tmp_path: Path) -> None:
    data = fill(tmp_path, "trainA", "testA")

    assert find_folder(data, "trainB") is None


@pytest.mark.parametrize(
    ("folders", "domains", "facts"),
    [
        (["fall", "summer", "winter"], "", ["fall (2 pictures), summer (2 pictures)", "--domains fall,summer"]),
        (["summer", "winter"], "summer,autumn", ["expected summer and autumn", "--domains summer,winter"]),
        (["photos"], "", ["photos (2 pictures)", "trainA and ", "put the pictures"]),
        ([], "", ["holds no folder of pictures", "put the pictures"]),
    ],
)
def test_what_was_found_instead_is_said_with_what_to_do(
    folders: list[str], domains: str, facts: list[str], tmp_path: Path
) -> None:
    data = fill(tmp_path, *folders)

    with pytest.raises(DataError) as refusal:
        require_folder(data, "trainB", domains)

    for fact in facts:
        assert fact in str(refusal.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none is not there.*data scenes"):
        require_folder(tmp_path / "none", "trainA")


@pytest.mark.parametrize("domains", ["summer", "summer,", ",winter", "summer,autumn,winter", " , "])
def test_domains_are_two_names_with_a_comma(domains: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the names of two domains with a comma, as in summer,winter"):
        find_folder(tmp_path, "trainA", domains)
