"""Unpaired pictures: an order that is a function of the seed, and files that are left out by name."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from cyclegan_edge.errors import DataError
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.preprocess import resize_crop
from cyclegan_edge.train.data.cache import CacheKind, PictureCache
from cyclegan_edge.train.data.crops import Crops, Mode, PicturesConfig
from cyclegan_edge.train.data.folders import FolderPairs, PictureFolders, Read, find_pictures
from cyclegan_edge.train.data.loader import PairBatch, batches, load_batch

CROPS = Crops(pictures=PicturesConfig(), load_size=36, size=32, multiple=4, seed=0)


def crops_of(
    folders: PictureFolders, crops: Crops, first: int, count: int, *, seed: int = 0, read: Read = read_image
) -> PairBatch:
    return load_batch(list(islice(FolderPairs(folders, seed, read).stream(first), count)), crops)


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Five pictures of A, three of B, of different shapes; A's are dark, B's are bright."""
    for domain, count, offset in (("trainA", 5, 0), ("trainB", 3, 128)):
        (tmp_path / domain).mkdir()
        for number in range(count):
            picture = rng.integers(offset, offset + 128, (40 + number, 50, 3), dtype=np.uint8)
            write_image(tmp_path / domain / f"{number}.png", picture)
    return tmp_path


def test_an_epoch_shows_every_picture_of_the_larger_domain_once(data: Path) -> None:
    folders = find_pictures(data)

    shown, _ = crops_of(folders, replace(CROPS, load_size=8, size=8), 0, 5, seed=4)

    assert len(folders) == 5
    assert len({round(picture.mean().item(), 4) for picture in shown}) == 5


def test_a_crop_is_the_resize_crop_of_its_picture_and_nothing_else(data: Path) -> None:
    folders = find_pictures(data)
    load, size = CROPS.load_size, CROPS.size
    possible = [
        resize_crop(read_image(path), (load, load), (top, left, size, size), flip)
        for path in folders.b
        for top in range(load - size + 1)
        for left in range(load - size + 1)
        for flip in (False, True)
    ]

    _, shown = crops_of(folders, CROPS, 3, 1)

    assert sum(np.array_equal(shown[0].numpy(), crop) for crop in possible) == 1


def test_crops_differ_between_epochs_and_pairs_do_too(data: Path) -> None:
    folders = find_pictures(data)

    first, second = (crops_of(folders, CROPS, 5 * epoch, 5)[0] for epoch in (0, 1))

    assert not any(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_same_for_any_number_of_workers_and_from_any_start(data: Path, workers: int) -> None:
    folders = find_pictures(data)
    expected_a, expected_b = crops_of(folders, CROPS, 12, 12)

    endless = batches(FolderPairs(folders, 0), CROPS, batch=2, start=12, workers=workers)
    made = list(islice(endless, 6))
    endless.close()

    assert len(made) == 6
    assert torch.equal(torch.cat([a for a, _ in made]), expected_a)
    assert torch.equal(torch.cat([b for _, b in made]), expected_b)


def test_a_reader_that_stops_early_leaves_no_thread_behind(data: Path) -> None:
    import threading

    reader = batches(FolderPairs(find_pictures(data), 0), CROPS, batch=1, start=0, workers=2)
    next(reader)
    reader.close()

    for thread in threading.enumerate():
        if thread.name.startswith("pictures"):
            thread.join(timeout=10)
            assert not thread.is_alive()


def test_a_picture_that_goes_away_while_training_is_an_error_of_its_reader(data: Path) -> None:
    folders = find_pictures(data)
    for path in folders.a:
        path.unlink()

    with pytest.raises(Exception, match=r"trainA.*\.png"):
        list(islice(batches(FolderPairs(folders, 0), CROPS, batch=1, start=0, workers=2), 3))


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_the_batch_of_one(data: Path, ranks: int) -> None:
    pairs = FolderPairs(find_pictures(data), 0)
    whole = list(islice(batches(pairs, CROPS, batch=4, start=8, workers=0), 3))

    shares = [
        list(islice(batches(pairs, CROPS, batch=4, start=8, workers=0, rank=rank, world_size=ranks), 3))
        for rank in range(ranks)
    ]

    for number, (a, b) in enumerate(whole):
        assert torch.equal(torch.cat([share[number][0] for share in shares]), a)
        assert torch.equal(torch.cat([share[number][1] for share in shares]), b)


@pytest.mark.parametrize(
    ("mode", "full", "part"),
    [
        ("resize_and_crop", (72, 72), (64, 64)),
        ("short_side_and_crop", (72, 108), (64, 64)),
        ("scale_width_and_crop", (64, 96), (64, 64)),  # 72 wide would be 48 high, too low for the crop
        ("crop", (200, 300), (64, 64)),
        ("scale_width", (48, 72), (48, 72)),
        ("scale_short_side", (72, 108), (72, 108)),
        ("none", (200, 300), (200, 300)),
    ],
)
def test_each_mode_resizes_and_cuts_as_its_name_says(mode: Mode, full: tuple[int, int], part: tuple[int, int]) -> None:
    crops = Crops(pictures=PicturesConfig(mode=mode), load_size=72, size=64, multiple=4, seed=0)

    resized, (top, left, height, width) = crops.place(200, 300, np.random.default_rng(0))

    assert (resized, (height, width)) == (full, part)
    assert 0 <= top <= full[0] - height
    assert 0 <= left <= full[1] - width


@pytest.mark.parametrize("mode", ["crop", "short_side_and_crop", "scale_width_and_crop"])
def test_a_picture_too_small_for_its_crop_is_enlarged(mode: Mode) -> None:
    crops = Crops(pictures=PicturesConfig(mode=mode), load_size=64, size=64, multiple=4, seed=0)

    resized, part = crops.place(20, 50, np.random.default_rng(0))

    assert resized == (64, 160)
    assert part[2:] == (64, 64)


def test_a_whole_picture_is_rounded_to_what_the_generator_takes(data: Path) -> None:
    crops = Crops(pictures=PicturesConfig(mode="none", flip=False), load_size=0, size=32, multiple=16, seed=0)

    a, _ = crops_of(find_pictures(data), crops, 0, 1)

    assert a.shape == (1, 3, 48, 48)  # 40 to 44 rows, 50 columns


def test_a_grey_domain_has_one_channel_with_pillow_s_weights(data: Path) -> None:
    folders = find_pictures(data)
    colour, expected = crops_of(folders, CROPS, 0, 2)

    grey_crops = replace(CROPS, pictures=PicturesConfig(colour_a="grey"))
    grey, untouched = crops_of(folders, grey_crops, 0, 2)

    assert grey.shape == (2, 1, 32, 32)
    red, green, blue = colour.unbind(1)
    torch.testing.assert_close(grey[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue)
    assert torch.equal(untouched, expected)


@pytest.mark.parametrize("kind", ["ram", "disk", "none"])
def test_a_cache_changes_no_pixel(data: Path, tmp_path: Path, kind: CacheKind) -> None:
    cache = PictureCache(kind, limit_mib=1, folder=tmp_path / "cache")
    folders = find_pictures(data)
    expected = crops_of(folders, CROPS, 0, 10)

    twice = [crops_of(folders, CROPS, 0, 10, read=cache.read) for _ in range(2)]

    assert all(torch.equal(found, half) for made in twice for found, half in zip(made, expected, strict=True))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cached_picture_is_decoded_once(
    data: Path, tmp_path: Path, kind: CacheKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PictureCache(kind, limit_mib=1, folder=tmp_path / "cache")
    cache.read(data / "trainA" / "0.png")

    def decode_again(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("cyclegan_edge.train.data.cache.read_image", decode_again)

    assert cache.read(data / "trainA" / "0.png").shape == (40, 50, 3)


def test_two_threads_may_fill_the_disk_cache_at_once(data: Path, tmp_path: Path) -> None:
    path = data / "trainA" / "0.png"

    for attempt in range(20):
        cache = PictureCache("disk", limit_mib=0, folder=tmp_path / f"cache-{attempt}")
        with ThreadPoolExecutor(4) as pool:
            pictures = list(pool.map(cache.read, [path] * 8))
        assert all(np.array_equal(picture, read_image(path)) for picture in pictures)


def test_a_memory_cache_stays_within_its_limit(data: Path) -> None:
    cache = PictureCache("ram", limit_mib=0)

    first, second = (cache.read(data / "trainA" / "0.png") for _ in range(2))

    assert first is not second
    np.testing.assert_array_equal(first, second)


def test_a_disk_cache_forgets_a_picture_that_was_replaced(data: Path, tmp_path: Path) -> None:
    cache = PictureCache("disk", limit_mib=0, folder=tmp_path / "cache")
    path = data / "trainA" / "0.png"
    cache.read(path)

    write_image(path, np.full((7, 9, 3), 5, np.uint8))

    assert cache.read(path).shape == (7, 9, 3)


def test_a_damaged_disk_cache_is_one_sentence(data: Path, tmp_path: Path) -> None:
    cache = PictureCache("disk", limit_mib=0, folder=tmp_path / "cache")
    cache.read(data / "trainA" / "0.png")
    for kept in (tmp_path / "cache").iterdir():
        kept.write_bytes(b"no array")

    with pytest.raises(DataError, match=r"cannot be used .* set cache=none"):
        cache.read(data / "trainA" / "0.png")


def test_unreadable_files_are_left_out_by_name(data: Path) -> None:
    (data / "trainA" / "broken.jpg").write_bytes(b"no picture")
    heard: list[tuple[int, int]] = []

    folders = find_pictures(data, on_progress=lambda done, total: heard.append((done, total)))

    assert len(folders.a) == 5
    assert [path.name for path, _ in folders.skipped] == ["broken.jpg"]
    assert "broken.jpg" in folders.skipped[0][1]
    assert heard[-1] == (9, 9)


def test_a_missing_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder trainA, expected trainA and trainB"):
        find_pictures(tmp_path)


def test_too_few_readable_pictures_are_refused_with_the_reasons(data: Path) -> None:
    for path in sorted((data / "trainB").iterdir())[:2]:
        path.write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"trainB holds 1 readable pictures, expected at least 2;.*0\.png"):
        find_pictures(data)


def test_all_of_horse2zebra_is_readable(test_data: Path) -> None:
    folders = find_pictures(test_data / "horse2zebra", workers=os.cpu_count() or 1)

    assert (len(folders.a), len(folders.b), len(folders)) == (1067, 1334, 1334)
    assert folders.skipped == ()


def test_folders_of_different_length_pair_by_the_larger_one() -> None:
    folders = PictureFolders(a=(Path("1"), Path("2")), b=(Path("3"), Path("4"), Path("5")))

    assert len(folders) == 3
