"""Decoded pictures are kept: the same pixels, decoded once, within a limit."""

from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.images import read_image
from cyclegan_edge.train.data.cache import PictureCache


@pytest.mark.parametrize("limit_mib", [1, 0])
def test_a_cache_changes_no_pixel(two_domains: Path, limit_mib: int) -> None:
    cache = PictureCache(limit_mib)

    for path in sorted(two_domains.glob("train?/*.png")) * 2:
        np.testing.assert_array_equal(cache.read(path), read_image(path))


def test_a_cached_picture_is_decoded_once(two_domains: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PictureCache(1)
    cache.read(two_domains / "trainA" / "0.png")

    def decode_again(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("cyclegan_edge.train.data.cache.read_image", decode_again)

    assert cache.read(two_domains / "trainA" / "0.png").shape == (40, 50, 3)


def test_the_cache_stays_within_its_limit(two_domains: Path) -> None:
    cache = PictureCache(0)

    first, second = (cache.read(two_domains / "trainA" / "0.png") for _ in range(2))

    assert first is not second
