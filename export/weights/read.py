"""The tensors in anyone's file of weights (.pth, .pt, .safetensors), by name; never code."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from cyclegan_edge.errors import CheckpointError, first_line
from cyclegan_edge.train.torch_file import DAMAGED, MAX_BYTES, check_finite, is_safetensors, read_start, read_torch_file

MAX_HEADER_BYTES = 8 << 20  # of a safetensors file; 20,000 tensors have 2 MiB
MAX_VALUES = 1 << 29  # of the generator taken from it: 2 GiB as float32; the largest known has 54 million

_WRAPPERS = frozenset({"module", "_orig_mod"})  # what DataParallel and torch.compile put into every name


def read_file(path: Path) -> tuple[object, dict[str, str]]:
    """What `path` holds, on the CPU, and the metadata of a safetensors file.

    Raises CheckpointError when the file is missing, too large, damaged, or holds anything but weights and plain values.
    """
    if not path.is_file():
        raise CheckpointError(
            f"There is no file {path}; name a .pth, .pt or .safetensors file with a generator's weights."
        )
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(
            f"{path} has {size / 2**30:.1f} GiB, expected at most {MAX_BYTES >> 30}; save the generator alone."
        )
    start = read_start(path)
    if is_safetensors(start):
        return _read_safetensors(path, header=int.from_bytes(start[:8], "little"))
    return read_torch_file(path), {}


def tensors_of(content: object, path: Path) -> dict[str, Tensor]:
    """The floating-point tensors of nested dictionaries, by their joined names: {"net": {"w": t}} -> {"net.w": t}.

    Names lose the `module` and `_orig_mod` of wrappers. Raises CheckpointError when there are none.
    """
    found = {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): value.detach()
        for name, value in _leaves(content, ())
        if isinstance(value, Tensor) and value.is_floating_point() and _is_dense(value)
    }
    if not found:
        raise CheckpointError(f"{path} holds no weights; save them with torch.save(generator.state_dict(), 'G.pth').")
    return found


def as_float32(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same tensors in float32, each with its own memory. Raises CheckpointError for too many, NaN or infinity."""
    values = sum(math.prod(tensor.shape) for tensor in weights.values())
    if values > MAX_VALUES:
        raise CheckpointError(
            f"{path} has a generator of {values / 1e6:.0f} million weights, expected at most {MAX_VALUES / 1e6:.0f}."
        )
    converted = {
        name: tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    check_finite(converted, path)
    return converted


def _read_safetensors(path: Path, *, header: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    if header > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path} {DAMAGED}.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # SafetensorError, and others for types that torch does not have
        raise CheckpointError(f"{path} {DAMAGED} ({first_line(error)}).") from error


def _is_dense(tensor: Tensor) -> bool:
    """Whether the values are here, in rows; a file may also hold sparse, nested and meta tensors."""
    return tensor.layout is torch.strided and not tensor.is_nested and tensor.device.type == "cpu"


def _leaves(content: object, above: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    """Every value that is not a dictionary, and its joined name."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            if isinstance(name, str | int):
                yield from _leaves(value, (*above, str(name)))
    else:
        yield ".".join(above), content
