"""Decoded pictures are kept: the same pixels, decoded once, within a limit."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.errors import DataError
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.train.data.cache import CacheKind, PictureCache


@pytest.mark.parametrize("kind", ["ram", "disk", "none"])
def test_a_cache_changes_no_pixel(two_domains: Path, tmp_path: Path, kind: CacheKind) -> None:
    cache = PictureCache(kind, limit_mib=1, folder=tmp_path / "cache")

    for path in sorted(two_domains.glob("train?/*.png")) * 2:
        np.testing.assert_array_equal(cache.read(path), read_image(path))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cached_picture_is_decoded_once(
    two_domains: Path, tmp_path: Path, kind: CacheKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PictureCache(kind, limit_mib=1, folder=tmp_path / "cache")
    cache.read(two_domains / "trainA" / "0.png")

    def decode_again(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("cyclegan_edge.train.data.cache.read_image", decode_again)

    assert cache.read(two_domains / "trainA" / "0.png").shape == (40, 50, 3)


def test_two_threads_may_fill_the_disk_cache_at_once(two_domains: Path, tmp_path: Path) -> None:
    path = two_domains / "trainA" / "0.png"

    for attempt in range(20):
        cache = PictureCache("disk", limit_mib=0, folder=tmp_path / f"cache-{attempt}")
        with ThreadPoolExecutor(4) as pool:
            pictures = list(pool.map(cache.read, [path] * 8))
        assert all(np.array_equal(picture, read_image(path)) for picture in pictures)


def test_a_memory_cache_stays_within_its_limit(two_domains: Path) -> None:
    cache = PictureCache("ram", limit_mib=0)

    first, second = (cache.read(two_domains / "trainA" / "0.png") for _ in range(2))

    assert first is not second
    np.testing.assert_array_equal(first, second)


def test_a_disk_cache_forgets_a_picture_that_was_replaced(two_domains: Path, tmp_path: Path) -> None:
    cache = PictureCache("disk", limit_mib=0, folder=tmp_path / "cache")
    path = two_domains / "trainA" / "0.png"
    cache.read(path)

    write_image(path, np.full((7, 9, 3), 5, np.uint8))

    assert cache.read(path).shape == (7, 9, 3)


def test_a_damaged_disk_cache_is_one_sentence(two_domains: Path, tmp_path: Path) -> None:
    cache = PictureCache("disk", limit_mib=0, folder=tmp_path / "cache")
    cache.read(two_domains / "trainA" / "0.png")
    for kept in (tmp_path / "cache").iterdir():
        kept.write_bytes(b"no array")

    with pytest.raises(DataError, match=r"\.npy.*cache=none"):
        cache.read(two_domains / "trainA" / "0.png")
