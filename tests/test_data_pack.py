"""A folder becomes shards: the same bytes every time, both domains everywhere, nothing damaged, whole or not at all."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cyclegan_edge.cli import app
from cyclegan_edge.errors import DataError, SinkError
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.train.data import pack as module
from cyclegan_edge.train.data.pack import pack


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Forty pictures of A, ten of B, about 1.5 kB each."""
    for domain, count in (("trainA", 40), ("trainB", 10)):
        (tmp_path / "data" / domain).mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            write_image(tmp_path / "data" / domain / f"{number:02d}.png", picture)
    return tmp_path / "data"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """One MiB would hold all of it: let the headers count for more."""
    monkeypatch.setattr(module, "BLOCK", 100_000)


def names(shard: Path) -> list[str]:
    with tarfile.open(shard) as tar:
        return tar.getnames()


@pytest.mark.usefixtures("small_shards")
def test_every_picture_is_in_one_shard_as_it_was(data: Path, tmp_path: Path) -> None:
    packed = pack(data, tmp_path / "out", shard_mb=1)

    found: dict[str, bytes] = {}
    for shard in packed.shards:
        with tarfile.open(tmp_path / "out" / shard.file) as tar:
            found |= {member.name: content.read() for member in tar if (content := tar.extractfile(member))}
    files = [path for domain in ("trainA", "trainB") for path in (data / domain).iterdir()]
    assert len(packed.shards) > 5
    assert packed.skipped == ()
    assert found == {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


@pytest.mark.usefixtures("small_shards")
def test_both_domains_are_spread_evenly(data: Path, tmp_path: Path) -> None:
    packed = pack(data, tmp_path / "out", shard_mb=1)

    assert len(packed.shards) > 5
    order = [name.split("/")[0] for shard in packed.shards for name in names(tmp_path / "out" / shard.file)]
    for start in range(len(order) - 5):
        assert {"trainA", "trainB"} == set(order[start : start + 6])


@pytest.mark.usefixtures("small_shards")
def test_the_index_counts_each_domain_of_each_shard(data: Path, tmp_path: Path) -> None:
    pack(data, tmp_path / "out", shard_mb=1)

    index = json.loads((tmp_path / "out" / "index.json").read_text(encoding="utf-8"))
    assert index["schema"] == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [line["file"] for line in index["shards"]]
    for line in index["shards"]:
        inside = [name.split("/")[0] for name in names(tmp_path / "out" / line["file"])]
        assert (inside.count("trainA"), inside.count("trainB")) == (line["trainA"], line["trainB"])
        assert (tmp_path / "out" / line["file"]).stat().st_size == line["bytes"]


def test_the_same_pictures_give_the_same_bytes(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "copy")  # other times, other folder

    pack(data, tmp_path / "one", workers=1)
    pack(tmp_path / "copy", tmp_path / "other", workers=4)

    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()
    }


def test_a_shard_is_no_larger_than_asked_for(tmp_path: Path, rng: np.random.Generator) -> None:
    for domain in ("trainA", "trainB"):
        (tmp_path / domain).mkdir()
        for number in range(4):
            write_image(tmp_path / domain / f"{number}.png", rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))

    packed = pack(tmp_path, tmp_path / "out", shard_mb=1)

    assert [sum(shard.counts.values()) for shard in packed.shards] == [2, 2, 2, 2]
    assert all(shard.bytes <= 1 << 20 for shard in packed.shards)
    assert packed.pattern == "{0000..0003}.tar"


def test_names_that_would_collide_get_numbers(data: Path, tmp_path: Path) -> None:
    source = data / "trainB" / "00.png"
    for name in ("a.png", "A.PNG", "a b.png", "a.b.png", "ä b.png", f"{'n' * 200}.png"):
        shutil.copy(source, data / "trainB" / name)
    write_image(data / "trainB" / "a.bmp", read_image(source))

    packed = pack(data, tmp_path / "out")

    found = [name for shard in packed.shards for name in names(tmp_path / "out" / shard.file)]
    keys = [name.split(".")[0].lower() for name in found]
    assert len(set(keys)) == len(keys) == 57
    assert {"trainB/A.png", "trainB/a-2.bmp", "trainB/a-3.png", "trainB/a_b.png", "trainB/a_b-2.png"} <= set(found)
    assert all(name.isascii() and len(name) < 100 and name.count(".") == 1 for name in found)


def test_damaged_files_are_left_out_and_move_nothing_else(data: Path, tmp_path: Path) -> None:
    (data / "trainB" / "05.png").write_bytes(b"no picture")

    packed = pack(data, tmp_path / "out")

    assert [path.name for path, _ in packed.skipped] == ["05.png"]
    assert packed.shards[0].counts == {"trainA": 40, "trainB": 9}


def test_a_failure_leaves_nothing_behind(data: Path, tmp_path: Path) -> None:
    for path in sorted((data / "trainB").iterdir())[1:]:
        path.write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"trainB holds 1 .*at least 2.*01\.png"):
        pack(data, tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_cannot_be_packed_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError, match=r"there already.*another place"):
        pack(data, data)
    with pytest.raises(DataError, match="trainA"):
        pack(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="0 MiB"):
        pack(data, tmp_path / "out", shard_mb=0)
    with pytest.raises(SinkError, match="free space"):
        pack(data, tmp_path / "file" / "out")


def test_folders_of_other_names_are_packed_as_a_and_b(data: Path, tmp_path: Path) -> None:
    (data / "trainA").rename(data / "summer")
    (data / "trainB").rename(data / "winter")
    (data / "notes").mkdir()
    shutil.copy(data / "summer" / "00.png", data / "notes")
    (data / "winter" / "05.png").write_bytes(b"no picture")

    result = CliRunner().invoke(
        app, ["data", "pack", str(data), "--domains", "summer,winter", "--out", str(tmp_path / "out")]
    )

    assert result.exit_code == 0
    assert "40 pictures of A and 9 of B" in result.output
    assert {name.split("/")[0] for name in names(tmp_path / "out" / "0000.tar")} == {"trainA", "trainB"}


def test_too_few_pictures_in_folders_of_other_names_are_refused_with_the_reasons(data: Path, tmp_path: Path) -> None:
    (data / "trainB").rename(data / "winter")
    for path in sorted((data / "winter").iterdir())[1:]:
        path.write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"winter holds 1 .*at least 2.*01\.png"):
        pack(data, tmp_path / "out", domains="trainA,winter")


def test_the_command_says_where_the_shards_are_and_what_was_left_out(data: Path, tmp_path: Path) -> None:
    (data / "trainA" / "broken.png").write_bytes(b"no picture")

    result = CliRunner().invoke(app, ["data", "pack", str(data), "--out", str(tmp_path / "out")])

    assert result.exit_code == 0
    assert "40 pictures of A and 10 of B" in result.output
    assert str(tmp_path / "out" / "0000.tar") in result.output
    assert "broken.png" in result.output
