"""A file of torch.save is data: code does not run, small files stay small in memory, and damage is one sentence."""

import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.train import torch_file
from cyclegan_edge.train.torch_file import read_torch_file

BOTH_FORMATS = pytest.mark.parametrize("old", [False, True], ids=["archive", "before torch 1.6"])


def saved(content: object, path: Path, *, old: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def archive_of(pickled: bytes, path: Path, *, compression: int = zipfile.ZIP_STORED) -> Path:
    """An archive as torch.save writes it, with this pickle in place of its own."""
    saved({}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else part)
    return path


@BOTH_FORMATS
def test_tensors_and_plain_values_come_back(old: bool, tmp_path: Path) -> None:
    content = {
        "net": OrderedDict(weight=torch.arange(6.0).reshape(2, 3).half()),
        "step": 7,
        "names": ["a", ("b", None)],
    }

    found: Any = read_torch_file(saved(content, tmp_path / "G.pth", old=old))

    torch.testing.assert_close(found["net"]["weight"], content["net"]["weight"], rtol=0, atol=0)  # type: ignore[index]
    assert {**found, "net": None} == {**content, "net": None}


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@BOTH_FORMATS
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(old: bool, tmp_path: Path) -> None:
    path = saved({"weight": torch.ones(3), "bias": Bomb(tmp_path / "ran")}, tmp_path / "G.pth", old=old)

    with pytest.raises(CheckpointError, match=r"G\.pth holds Python objects \(posix\.mkdir\), .* could run any code"):
        read_torch_file(path)

    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_whole_module_and_a_torchscript_program_are_refused_with_the_way_to_save_weights(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3))
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 3, 8, 8)), tmp_path / "script.pt")  # type: ignore[no-untyped-call]

    for path, kind in (
        (saved(module, tmp_path / "G.pth"), r"Python objects \(torch\.nn\.modules\.container\.Sequential\)"),
        (tmp_path / "script.pt", "a TorchScript program"),
    ):
        with pytest.raises(CheckpointError, match=rf"{kind}.* torch\.save\(generator\.state_dict\(\)"):
            read_torch_file(path)


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
ONES = torch.ones(9).numpy().tobytes()
DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda content: content[: len(content) // 2], "is damaged or not a"),
    "empty": (lambda content: b"", "is empty; .* again"),
    "text": (lambda content: b"no weights at all", "is damaged or not a"),
    "Git LFS": (lambda content: LFS_POINTER, "is a Git LFS pointer, .*`git lfs pull`"),
    "HTML": (lambda content: b"\n<!DOCTYPE html><html>not found</html>", "is a web page"),
    "html": (lambda content: b"<HTML><body>quota exceeded</body></html>", "is a web page"),
    "pickle": (lambda content: pickle.dumps([1, 2, 3], protocol=5), "is damaged or not a"),
    "overwritten": (lambda content: content.replace(ONES, bytes(36)), "is damaged, the checksum of its part G/data/0 "),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_and_a_common_cause_named(damage: str, tmp_path: Path) -> None:
    change, sentence = DAMAGED[damage]
    path = saved({"weight": torch.ones(9)}, tmp_path / "G.pth")
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(CheckpointError, match=rf"G\.pth {sentence}"):
        read_torch_file(path)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"G\.pth cannot be read \(No such file or directory\)"):
        read_torch_file(tmp_path / "G.pth")


def call(function: str, *arguments: int) -> bytes:
    """A pickle that calls `function` with integers."""
    return pickle.PROTO + b"\x02c" + function.encode() + b"\n" + pickle.dumps(arguments, 2)[2:-1] + pickle.REDUCE + b"."


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("builtins\nbytearray", (1 << 36,)),
        ("__builtin__\nbytearray", (1 << 36,)),
        ("torch\nTensor", (1 << 18, 1 << 18)),
        ("torch\nFloatTensor", (1 << 36,)),
        ("torch.cuda\nFloatTensor", (1 << 36,)),
    ],
)
@BOTH_FORMATS
def test_a_class_that_allocates_what_a_file_asks_for_is_not_called(
    function: str, arguments: tuple[int, ...], old: bool, tmp_path: Path
) -> None:
    pickled = call(function, *arguments)
    path = archive_of(pickled, tmp_path / "G.pth")
    if old:
        start = saved({}, tmp_path / "old.pth", old=True).read_bytes()
        path.write_bytes(start.replace(pickle.dumps({}, 2)[:-1], pickled[:-1]))

    with pytest.raises(CheckpointError, match=rf"holds Python objects \({function}\)".replace("\n", r"\.")):
        read_torch_file(path)


@pytest.mark.parametrize("digits", [100, 4000, 5000])
def test_an_integer_that_counts_nothing_is_refused(digits: int, tmp_path: Path) -> None:
    path = saved({"step": -(10**digits)}, tmp_path / "G.pth")

    with pytest.raises(CheckpointError, match=rf"an integer of {(10**digits).bit_length()} bits, expected at most 128"):
        read_torch_file(path)


def test_an_archive_that_unpacks_to_more_than_it_should_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "G.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("G/data/0", bytes(3 << 20))
    monkeypatch.setattr(torch_file, "MAX_BYTES", 2 << 20)
    with pytest.raises(CheckpointError, match=r"unpacks to 0\.0 GiB, expected at most 0"):
        read_torch_file(path)

    monkeypatch.undo()
    monkeypatch.setattr(torch_file, "MAX_PICKLE_BYTES", 1 << 20)
    endless = pickle.PROTO + b"\x02" + b"}0" * (1 << 20) + b"N."
    with pytest.raises(CheckpointError, match="pickle of 2 MiB, expected at most 1"):
        read_torch_file(archive_of(endless, path, compression=zipfile.ZIP_DEFLATED))


@BOTH_FORMATS
def test_a_pickle_of_too_many_opcodes_is_refused(old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "MAX_OPCODES", 1000)
    path = saved({"list": [{}] * 1000}, tmp_path / "G.pth", old=old)

    with pytest.raises(CheckpointError, match="more than 1000 opcodes"):
        read_torch_file(path)


def nested(depth: int) -> object:
    return {"in": nested(depth - 1)} if depth else 1


def endless(leaf: object) -> object:
    """Five dictionaries that each hold the one inside a hundred times: ten thousand million entries in one kilobyte."""
    for _ in range(5):
        leaf = {str(number): leaf for number in range(100)}
    return leaf


def circular() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (nested(40), "nested more than 32 deep"),
        (circular(), "nested more than 32 deep"),
        (endless(torch.ones(1)), "more than 100000 entries"),
        (endless({}), "more than 100000 entries"),
    ],
    ids=["deep", "circular", "endless tensors", "endless dictionaries"],
)
def test_content_without_end_is_refused(content: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        read_torch_file(saved(content, tmp_path / "G.pth"))


def test_a_tensor_beyond_its_values_is_refused(tmp_path: Path) -> None:
    path = saved({"weight": torch.ones(9)}, tmp_path / "G.pth")
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("G/data.pkl")
        rest = {name: archive.read(name) for name in archive.namelist()}
    larger = pickled.replace(b"K\x09", b"J" + (1 << 30).to_bytes(4, "little"))  # of 9 values, both times it is said
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in {**rest, "G/data.pkl": larger}.items():
            archive.writestr(name, part)

    assert larger != pickled
    with pytest.raises(CheckpointError, match="is damaged"):
        read_torch_file(path)


def test_a_repeated_tensor_is_one(tmp_path: Path) -> None:
    shared: Tensor = torch.ones(3)

    found: Any = read_torch_file(saved({"a": shared, "b": shared}, tmp_path / "G.pth"))

    assert found["a"].data_ptr() == found["b"].data_ptr()


@BOTH_FORMATS
def test_bytes_overwritten_at_random_raise_nothing_else(old: bool, tmp_path: Path) -> None:
    path = saved({"net": {"weight": torch.ones(9), "bias": torch.zeros(3)}, "step": 7}, tmp_path / "G.pth", old=old)
    whole, draw = path.read_bytes(), random.Random(0)
    refused = 0

    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 4, 30))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice((len(content), draw.randrange(1, len(content))))])
        try:
            read_torch_file(path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error), error  # noqa: PT017

    assert refused > 100
