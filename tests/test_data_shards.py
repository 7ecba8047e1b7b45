"""Pairs from shards: an order that is a function of the seed, and exact continuation."""

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.errors import DataError, ImageError
from cyclegan_edge.images import encode_image
from cyclegan_edge.train.data.pack import pack
from cyclegan_edge.train.data.shard_index import Listed, Shard, find_shards, index_text
from cyclegan_edge.train.data.shards import ShardPairs, shuffled

WriteTar = Callable[[Path, Mapping[str, bytes]], Path]

SHARDS = ((5, 3), (4, 4), (6, 0), (2, 5))  # pictures of A and B: 17 and 12
OF_A, OF_B = 17, 12


def encoded(level: int) -> bytes:
    return encode_image(np.full((4, 4, 3), level, np.uint8), ".png", "test")


@pytest.fixture
def folder(tmp_path: Path, write_tar: WriteTar) -> Path:
    """Four shards and their index; A's pictures are the levels 0 to 16, B's 100 to 111."""
    of_a, of_b = iter(range(OF_A)), iter(range(100, 100 + OF_B))
    for number, (count_a, count_b) in enumerate(SHARDS):
        levels = [("trainB", level) for level in islice(of_b, count_b)] + [("trainA", n) for n in islice(of_a, count_a)]
        write_tar(tmp_path / f"{number}.tar", {f"{domain}/{n}.png": encoded(n) for domain, n in levels})
    write_index(tmp_path, SHARDS)
    return tmp_path


def write_index(folder: Path, counts: Sequence[tuple[int, int]]) -> None:
    shards = enumerate(counts)
    listed = [Listed(f"{n}.tar", (folder / f"{n}.tar").stat().st_size, trainA=a, trainB=b) for n, (a, b) in shards]
    (folder / "index.json").write_text(index_text(listed), encoding="utf-8")


def pairs_of(folder: Path, *, seed: int = 3, buffer: int = 4) -> ShardPairs:
    return ShardPairs(find_shards(f"{folder}/{{0..3}}.tar"), seed=seed, buffer=buffer)


def shown(pairs: ShardPairs, start: int, count: int) -> list[tuple[int, int, int]]:
    """Position and the levels of both pictures."""
    return [(position, int(a()[0, 0, 0]), int(b()[0, 0, 0])) for position, a, b in islice(pairs.stream(start), count)]


def test_the_order_is_a_function_of_the_seed(folder: Path) -> None:
    first, again, other = (shown(pairs_of(folder, seed=seed), 0, 40) for seed in (3, 3, 4))

    assert first == again
    assert first != other
    assert [position for position, _, _ in first] == list(range(40))


def test_the_order_stays_what_it_was_in_the_first_version(folder: Path) -> None:
    found = shown(pairs_of(folder), 0, 12)

    assert [a for _, a, _ in found] == [3, 1, 0, 10, 2, 12, 9, 13, 15, 16, 11, 6]
    assert [b for _, _, b in found] == [100, 104, 102, 103, 105, 107, 108, 101, 106, 110, 111, 109]


def test_every_picture_of_a_domain_comes_once_in_each_of_its_epochs(folder: Path) -> None:
    pairs = pairs_of(folder)

    found = shown(pairs, 0, 3 * OF_A * OF_B)

    assert len(pairs) == OF_A
    for domain, size, levels in ((1, OF_A, range(OF_A)), (2, OF_B, range(100, 100 + OF_B))):
        stream = [pair[domain] for pair in found]
        epochs = [stream[first : first + size] for first in range(0, len(stream), size)]
        assert all(sorted(epoch) == list(levels) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > len(epochs) // 2  # in another order


@pytest.mark.parametrize("buffer", [1, 4, 100])
def test_starting_anywhere_is_the_tail_of_starting_at_the_beginning(folder: Path, buffer: int) -> None:
    pairs = pairs_of(folder, buffer=buffer)
    whole = shown(pairs, 0, 70)

    for start in range(60):  # borders of shards, and of the epochs of both domains
        assert shown(pairs, start, 10) == whole[start : start + 10]


def test_a_picture_comes_no_earlier_than_the_buffer_allows() -> None:
    order = list(shuffled(1000, 50, random.Random(1)))

    assert sorted(order) == list(range(1000))
    assert all(number < place + 50 for place, number in enumerate(order))
    assert sum(number < place for place, number in enumerate(order)) > 300


def test_a_pair_reads_nothing_before_it_is_decoded_and_then_only_its_own_shards(folder: Path) -> None:
    pairs = pairs_of(folder)
    whole = shown(pairs, 0, 5)
    needed = {int(number) for _, a, b in whole for number in (a, b)}
    late = [next(pairs_of(folder).stream(position)) for position in range(5)]

    for number, (a, b) in enumerate(SHARDS):
        first_a, first_b = (sum(counts[domain] for counts in SHARDS[:number]) for domain in (0, 1))
        held = {*range(first_a, first_a + a), *range(100 + first_b, 100 + first_b + b)}
        if not held & needed:
            (folder / f"{number}.tar").unlink()
    assert not (folder / "3.tar").exists()

    assert [(pair.position, int(pair.decode_a()[0, 0, 0]), int(pair.decode_b()[0, 0, 0])) for pair in late] == whole


def test_a_picture_that_was_damaged_since_it_was_packed_is_named(folder: Path, write_tar: WriteTar) -> None:
    pairs = pairs_of(folder)
    for number, (count_a, count_b) in enumerate(SHARDS):
        names = [f"trainA/{n}.png" for n in range(count_a)] + [f"trainB/{n}.png" for n in range(count_b)]
        write_tar(folder / f"{number}.tar", dict.fromkeys(names, b"no picture"))

    _, a, _ = next(pairs.stream(0))

    with pytest.raises(ImageError, match=r"\d\.tar:trainA/\d\.png"):
        a()


def test_pictures_may_be_decoded_in_any_thread_and_order(folder: Path) -> None:
    pairs = pairs_of(folder)
    expected = shown(pairs, 0, 60)

    with ThreadPoolExecutor(4) as pool:
        waiting = [(position, pool.submit(a), pool.submit(b)) for position, a, b in islice(pairs.stream(0), 60)]
        found = [(p, int(a.result()[0, 0, 0]), int(b.result()[0, 0, 0])) for p, a, b in reversed(waiting)]

    assert found[::-1] == expected


def test_a_shard_with_fewer_pictures_than_it_was_counted_with_is_refused(folder: Path) -> None:
    shards = [Shard(shard.location, {"trainA": 9, "trainB": 2}) for shard in find_shards(f"{folder}/{{0..3}}.tar")]

    with pytest.raises(DataError, match=r"\.tar holds \d pictures of trainA.* 9;"):
        shown(ShardPairs(shards, seed=0), 0, 40)


def test_shards_without_pictures_of_a_domain_are_refused(tmp_path: Path, write_tar: WriteTar) -> None:
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", {})
    write_index(tmp_path, [(2, 1), (0, 1)])

    with pytest.raises(DataError, match=r"0 pictures of trainA"):
        ShardPairs(find_shards(f"{tmp_path}/1.tar"), seed=0)
    with pytest.raises(DataError, match=r"1 pictures of trainB.*at least 2"):
        ShardPairs(find_shards(f"{tmp_path}/0.tar"), seed=0)


def test_packed_folders_stream_back_pixel_for_pixel(tmp_path: Path, rng: np.random.Generator) -> None:
    pictures = {
        domain: [rng.integers(0, 256, (9, 7, 3), dtype=np.uint8) for _ in range(6)] for domain in ("trainA", "trainB")
    }
    for domain, ones in pictures.items():
        (tmp_path / domain).mkdir()
        for number, picture in enumerate(ones):
            (tmp_path / domain / f"{number}.png").write_bytes(encode_image(picture, ".png", "test"))
    pack(tmp_path, tmp_path / "out")

    found = [(a(), b()) for _, a, b in islice(ShardPairs(find_shards(str(tmp_path / "out")), seed=0).stream(0), 6)]

    for place, domain in enumerate(("trainA", "trainB")):
        assert {pair[place].tobytes() for pair in found} == {picture.tobytes() for picture in pictures[domain]}
