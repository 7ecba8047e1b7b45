"""Decoded pictures are kept: the same pixels, decoded once, within a limit."""

from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.images import read_image
from cyclegan_edge.memory import available_memory
from cyclegan_edge.train.data import cache
from cyclegan_edge.train.data.cache import PictureCache


@pytest.mark.parametrize("limit_mib", [1, 0])
def test_a_cache_changes_no_pixel(two_domains: Path, limit_mib: int) -> None:
    pictures = PictureCache(limit_mib)

    for path in sorted(two_domains.glob("train?/*.png")) * 2:
        np.testing.assert_array_equal(pictures.read(path), read_image(path))


def test_a_cached_picture_is_decoded_once(two_domains: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = PictureCache(1)
    pictures.read(two_domains / "trainA" / "0.png")

    def decode_again(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("cyclegan_edge.train.data.cache.read_image", decode_again)

    assert pictures.read(two_domains / "trainA" / "0.png").shape == (40, 50, 3)


def test_the_cache_stays_within_its_limit(two_domains: Path) -> None:
    pictures = PictureCache(0)

    first, second = (pictures.read(two_domains / "trainA" / "0.png") for _ in range(2))

    assert first is not second


def test_the_cache_takes_half_of_the_memory_that_is_there(
    two_domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < available_memory() < 1 << 62
    monkeypatch.setattr(cache, "available_memory", lambda: 2 * 40 * 50 * 3)
    pictures = PictureCache(4096)

    kept = [pictures.read(two_domains / "trainA" / name) for name in ("0.png", "1.png") for _ in range(2)]

    assert [kept[0] is kept[1], kept[2] is kept[3]] == [True, False]
