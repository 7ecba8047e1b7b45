"""Which shards a name means, and how many pictures they hold."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cyclegan_edge.errors import DataError
from cyclegan_edge.train.data import shard_index
from cyclegan_edge.train.data.shard_index import Listed, expand_range, find_shards, index_text, is_shards, parse_index

WriteTar = Callable[[Path, Mapping[str, bytes]], Path]


@pytest.fixture
def folder(tmp_path: Path, write_tar: WriteTar) -> Path:
    """Three shards with an index; the first has two pictures of A and one of B, the others one of each."""
    listed = []
    for number in range(3):
        names = ["trainA/1.jpg", "trainB/1.jpg", *(["trainA/2.jpg"] if number == 0 else [])]
        shard = write_tar(tmp_path / "a#b?c" / f"{number:02d}.tar", dict.fromkeys(names, b""))
        listed.append(Listed(shard.name, shard.stat().st_size, trainA=len(names) - 1, trainB=1))
    (shard.parent / "index.json").write_text(index_text(listed), encoding="utf-8")
    return shard.parent


def test_a_pattern_and_its_folder_name_the_same_shards(folder: Path) -> None:
    shards = find_shards(str(folder))

    assert shards == find_shards(f"{folder}/{{00..02}}.tar") == find_shards(f"{folder}/")
    assert [Path(shard.location).name for shard in shards] == ["00.tar", "01.tar", "02.tar"]
    assert [shard.counts for shard in shards] == [{"trainA": 2, "trainB": 1}, *[{"trainA": 1, "trainB": 1}] * 2]
    assert find_shards(f"{folder}/01.tar") == shards[1:2]


def test_a_range_expands_as_in_a_shell() -> None:
    assert expand_range("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_range("plain.tar") == ["plain.tar"]


def test_an_address_has_its_index_beside_it_whatever_follows_its_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [shard.counts for shard in find_shards(str(folder))]

    def read(location: str, offset: int, size: int) -> bytes:
        assert location.startswith("https://host/x/index.json")
        return (folder / "index.json").read_bytes()

    monkeypatch.setattr(shard_index, "read_at", read)

    whole = find_shards("https://host/x/")
    signed = find_shards("https://host/x/{00..02}.tar?signature=a/b")

    assert [shard.location for shard in whole] == [f"https://host/x/{number:02d}.tar" for number in range(3)]
    assert [shard.location for shard in signed] == [f"{shard.location}?signature=a/b" for shard in whole]
    assert [shard.counts for shard in signed] == [shard.counts for shard in whole] == expected


@pytest.mark.parametrize(
    ("data", "meant"),
    [("x/{0..9}.tar", True), ("https://host/x/", True), ("pipe:cat 0.tar", True), (".", False), ("my.target", False)],
)
def test_shards_are_told_from_folders_of_pictures(folder: Path, data: str, meant: bool) -> None:
    assert is_shards(data) == meant
    assert is_shards(folder)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("pipe:touch {folder}/ran", "neither a path nor an http"),
        ("PIPE:touch {folder}/ran", "neither a path nor an http"),
        ("gs://bucket/0.tar", "neither a path nor an http"),
        ("file:///0.tar", "neither a path nor an http"),
        ("{folder}/{{00..03}}.tar", r"1 of 4 shards .*03\.tar"),
        ("{folder}/{{00..02.tar", "braces"),
        ("{folder}/{{0..9}}}}.tar", "braces"),
        ("{folder}/{{0,1}}.tar", "braces"),
        ("{folder}/{{9..0}}.tar", "names no shard"),
        ("{folder}/{{0..999999999999}}.tar", "more than 1000000"),
        ("{folder}/..", "index.json .*cyclegan-edge data pack"),
        ("{folder}/{{00..02}}.tar.gz", "no shards with an index.json"),
    ],
)
def test_what_names_no_shards_is_refused(folder: Path, data: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        find_shards(data.format(folder=folder))

    assert not (folder / "ran").exists()


def test_a_shard_that_is_not_the_one_of_the_index_is_refused(folder: Path) -> None:
    (folder / "01.tar").write_bytes(b"")

    with pytest.raises(DataError, match=r"01\.tar is not the file of \d+ bytes"):
        find_shards(str(folder))


GOOD = {"file": "0.tar", "bytes": 1, "trainA": 1, "trainB": 1}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("no json", "not an index of shards"),
        ("[" * 100_000, "not an index of shards"),
        ("[]", "not an index of shards"),
        ({"schema": 2, "shards": []}, "schema 2, expected 1"),
        ({"schema": 1, "shards": [{"file": "0.tar"}]}, "not an index of shards"),
        ({"schema": 1, "shards": [GOOD | {"file": "../0.tar"}]}, "'../0.tar' is not the name of a shard"),
        ({"schema": 1, "shards": [GOOD | {"file": "/0.tar"}]}, "not the name of a shard"),
        ({"schema": 1, "shards": [GOOD | {"file": "pipe:0.tar"}]}, "not the name of a shard"),
        ({"schema": 1, "shards": [GOOD | {"trainA": -1}]}, "0.tar is negative"),
        ({"schema": 1, "shards": [GOOD | {"trainB": True}]}, r"shards\[0\].trainB is True"),
        ({"schema": 1, "shards": [GOOD | {"bytes": 1.5}]}, r"shards\[0\].bytes is 1.5"),
    ],
)
def test_an_index_that_lies_is_refused(content: object, sentence: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)

    with pytest.raises(DataError, match=sentence):
        parse_index(text, "index.json")
