"""Pairs from folders: an order that is a function of the seed, and files that are left out by name."""

from itertools import islice
from pathlib import Path

import pytest

from cyclegan_edge.errors import DataError
from cyclegan_edge.images import read_image
from cyclegan_edge.train.data.folders import FolderPairs, find_pictures


def test_every_epoch_shows_the_larger_domain_once_in_another_order(two_domains: Path) -> None:
    folders = find_pictures(two_domains)
    pairs = FolderPairs(folders, seed=4)

    epochs = [[pair.decode_a().tobytes() for pair in islice(pairs.stream(5 * epoch), 5)] for epoch in range(3)]

    assert len(pairs) == len(folders) == 5
    assert all(set(epoch) == {read_image(path).tobytes() for path in folders.a} for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_pair_depends_on_the_seed_and_its_position_alone(two_domains: Path) -> None:
    folders = find_pictures(two_domains)

    def shown(seed: int, start: int, count: int) -> list[tuple[int, bytes, bytes]]:
        pairs = islice(FolderPairs(folders, seed).stream(start), count)
        return [(pair.position, pair.decode_a().tobytes(), pair.decode_b().tobytes()) for pair in pairs]

    whole = shown(3, 0, 20)

    assert all(shown(3, start, 3) == whole[start : start + 3] for start in (1, 4, 5, 17))
    assert shown(4, 0, 20) != whole
    assert {b for _, _, b in whole} == {read_image(path).tobytes() for path in folders.b}


def test_unreadable_files_are_left_out_by_name(two_domains: Path) -> None:
    (two_domains / "trainA" / "broken.jpg").write_bytes(b"no picture")
    heard: list[tuple[int, int]] = []

    folders = find_pictures(two_domains, on_progress=lambda done, total: heard.append((done, total)))

    assert len(folders.a) == 5
    assert [path.name for path, _ in folders.skipped] == ["broken.jpg"]
    assert "broken.jpg" in folders.skipped[0][1]
    assert heard[-1] == (9, 9)


def test_a_missing_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder trainA.*expected trainA and trainB"):
        find_pictures(tmp_path)


def test_too_few_readable_pictures_are_refused_with_the_reasons(two_domains: Path) -> None:
    for path in sorted((two_domains / "trainB").iterdir())[:2]:
        path.write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"trainB holds 1 .* at least 2.*0\.png"):
        find_pictures(two_domains)
