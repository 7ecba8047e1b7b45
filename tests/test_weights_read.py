"""Whatever holds weights gives its tensors by name; what holds none, or too many, is refused before it takes memory."""

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.export.weights.read import as_float32, read_file, tensors_of

FILE = Path("G.pth")


def test_tensors_are_named_by_their_way_through_dictionaries_without_wrappers() -> None:
    weight = torch.ones(2)
    content = {"nets": {"G": {"module.conv.weight": weight, "_orig_mod.module.bias": weight}}, 7: weight, "epoch": 3}

    assert list(tensors_of(content, FILE)) == ["nets.G.conv.weight", "nets.G.bias", "7"]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"weight": torch.ones(1, dtype=torch.int64)},
        [torch.ones(1)],
        {"weight": torch.ones(1, device="meta")},
        {"weight": torch.ones(2, 2).to_sparse()},
        {"weight": {("a", "tuple"): torch.ones(1)}},
    ],
    ids=["nothing", "integers", "list", "meta", "sparse", "no name"],
)
def test_what_holds_no_weights_is_refused(content: object) -> None:
    with pytest.raises(CheckpointError, match=r"G\.pth holds no weights; .*torch\.save\(generator\.state_dict\(\)"):
        tensors_of(content, FILE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(dtype: torch.dtype) -> None:
    weights = {"a": torch.linspace(-1, 1, 9).to(dtype)}

    found = as_float32(weights, FILE)

    assert torch.equal(found["a"], weights["a"].float())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights_are_refused_by_name(value: float) -> None:
    with pytest.raises(CheckpointError, match=r"G\.pth has NaN or infinite values in 'b'"):
        as_float32({"a": torch.ones(3), "b": torch.tensor([0.0, value])}, FILE)


def test_too_many_weights_are_refused_without_taking_memory() -> None:
    weights = {"a": torch.ones(1).expand(1 << 20, 1 << 20)}  # one value in memory, 4 TiB once copied

    with pytest.raises(CheckpointError, match="1099512 million weights, expected at most 537"):
        as_float32(weights, FILE)


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "G.pth"
    with pytest.raises(CheckpointError, match=r"There is no file .*G\.pth"):
        read_file(path)

    with path.open("wb") as file:
        file.truncate(5 << 30)  # takes no room on the disk
    with pytest.raises(CheckpointError, match=r"has 5\.0 GiB, expected at most 4"):
        read_file(path)


def test_a_safetensors_file_gives_its_tensors_and_metadata_whatever_its_name(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "G.pth", {"made by": "someone"})

    content, metadata = read_file(tmp_path / "G.pth")

    assert isinstance(content, dict)
    assert torch.equal(content["a"], torch.ones(3))
    assert metadata == {"made by": "someone"}


@pytest.mark.parametrize(
    "content",
    [
        (1 << 60).to_bytes(8, "little") + b"{}",
        (9 << 20).to_bytes(8, "little") + b"{" + bytes(9 << 20),
        (2).to_bytes(8, "little") + b"{]",
        (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_of',
        (62).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,68719476736]}}',
    ],
    ids=["header of 2**60", "header of 9 MiB", "no JSON", "cut header", "cut values"],
)
def test_a_damaged_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "G.safetensors").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"G\.safetensors is damaged"):
        read_file(tmp_path / "G.safetensors")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_git_lfs_pointer_is_named_whatever_its_suffix(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"G{suffix}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 45531453\n")

    with pytest.raises(CheckpointError, match="run `git lfs pull`"):
        read_file(tmp_path / f"G{suffix}")


def test_a_safetensors_file_with_bytes_overwritten_at_random_raises_nothing_else(tmp_path: Path) -> None:
    path, draw = tmp_path / "G.safetensors", random.Random(0)
    save_file({"a": torch.ones(9), "b": torch.ones(2, 3, dtype=torch.float16)}, path, {"made by": "someone"})
    whole = path.read_bytes()
    refused = 0

    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 4, 30))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice((len(content), draw.randrange(1, len(content))))])
        try:
            read_file(path)
        except CheckpointError:
            refused += 1

    assert refused > 100
