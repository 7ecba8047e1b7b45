"""Batches of crops: the same from any start, with any number of threads and processes."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from cyclegan_edge.images import read_image
from cyclegan_edge.preprocess import resize_crop
from cyclegan_edge.train.data.crops import Crops, PicturesConfig
from cyclegan_edge.train.data.folders import FolderPairs, PictureFolders, find_pictures
from cyclegan_edge.train.data.loader import PairBatch, batches, load_batch

CROPS = Crops(pictures=PicturesConfig(), load_size=36, size=32, multiple=4, seed=0)


def crops_of(folders: PictureFolders, crops: Crops, first: int, count: int) -> PairBatch:
    return load_batch(list(islice(FolderPairs(folders, 0).stream(first), count)), crops)


def test_a_crop_is_the_resize_crop_of_its_picture_and_nothing_else(two_domains: Path) -> None:
    folders = find_pictures(two_domains)
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


def test_crops_differ_between_epochs_and_pairs_do_too(two_domains: Path) -> None:
    folders = find_pictures(two_domains)

    first, second = (crops_of(folders, CROPS, 5 * epoch, 5)[0] for epoch in (0, 1))

    assert not any(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_same_for_any_number_of_workers_and_from_any_start(two_domains: Path, workers: int) -> None:
    folders = find_pictures(two_domains)
    expected_a, expected_b = crops_of(folders, CROPS, 12, 12)

    endless = batches(FolderPairs(folders, 0), CROPS, batch=2, start=12, workers=workers)
    made = list(islice(endless, 6))
    endless.close()

    assert len(made) == 6
    assert torch.equal(torch.cat([a for a, _ in made]), expected_a)
    assert torch.equal(torch.cat([b for _, b in made]), expected_b)


def test_a_picture_that_goes_away_while_training_is_an_error_of_its_reader(two_domains: Path) -> None:
    folders = find_pictures(two_domains)
    for path in folders.a:
        path.unlink()

    with pytest.raises(Exception, match=r"trainA.*\.png"):
        list(islice(batches(FolderPairs(folders, 0), CROPS, batch=1, start=0, workers=2), 3))


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_the_batch_of_one(two_domains: Path, ranks: int) -> None:
    pairs = FolderPairs(find_pictures(two_domains), 0)
    whole = list(islice(batches(pairs, CROPS, batch=4, start=8, workers=0), 3))

    shares = [
        list(islice(batches(pairs, CROPS, batch=4, start=8, workers=0, rank=rank, world_size=ranks), 3))
        for rank in range(ranks)
    ]

    for number, (a, b) in enumerate(whole):
        assert torch.equal(torch.cat([share[number][0] for share in shares]), a)
        assert torch.equal(torch.cat([share[number][1] for share in shares]), b)


def test_a_whole_picture_is_rounded_to_what_the_generator_takes(two_domains: Path) -> None:
    crops = Crops(pictures=PicturesConfig(mode="none", flip=False), load_size=0, size=32, multiple=16, seed=0)

    a, _ = crops_of(find_pictures(two_domains), crops, 0, 1)

    assert a.shape == (1, 3, 48, 48)  # 40 to 44 rows, 50 columns


def test_whole_pictures_keep_their_sides_up_to_what_the_generator_takes(two_domains: Path) -> None:
    crops = Crops(pictures=PicturesConfig(mode="none", flip=False), load_size=0, size=32, multiple=16, seed=0)

    a, _ = crops_of(find_pictures(two_domains), crops, 0, 1)

    assert a.shape == (1, 3, 48, 48)  # 40 to 44 rows, 50 columns


def test_a_grey_domain_has_one_channel_with_pillow_s_weights(two_domains: Path) -> None:
    folders = find_pictures(two_domains)
    colour, expected = crops_of(folders, CROPS, 0, 2)

    grey_crops = replace(CROPS, pictures=PicturesConfig(colour_a="grey"))
    grey, untouched = crops_of(folders, grey_crops, 0, 2)

    assert grey.shape == (2, 1, 32, 32)
    red, green, blue = colour.unbind(1)
    torch.testing.assert_close(grey[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue)
    assert torch.equal(untouched, expected)
