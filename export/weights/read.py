"""Weights from a file of anyone's: tensors by name, or a refusal; never code.

A file is measured before it is opened and its content before it is used; torch reads it with weights_only=True.
"""

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cyclegan_edge.errors import CheckpointError, first_line
from cyclegan_edge.files import atomic_file

MAX_BYTES = 4 << 30  # of a file, and of what it unpacks to
MAX_ENTRIES = 20_000  # a generator of 9 blocks has 48 tensors, a whole training state some hundreds
MAX_VALUES = 1 << 29  # of the generator taken from it: 2 GiB as float32; the largest known has 54 million

_MAX_DEPTH = 8  # of dictionaries in dictionaries
_WRAPPERS = frozenset({"module", "_orig_mod"})  # what DataParallel and torch.compile put into every name
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what it did not open


def read_content(path: Path) -> tuple[object, dict[str, str]]:
    """What `path` holds (a .pth or .pt of any age, or .safetensors) and the metadata of a safetensors file.

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
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if head[8:9] == b"{":
            return _read_safetensors(path)
        if head[:2] == b"PK":
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about archives and protocols, which the refusals below say better
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file raises many kinds, and torch's text about it is a page
        raise CheckpointError(_why_refused(path, error)) from error


def flatten(content: object, path: Path) -> dict[str, Tensor]:
    """The floating-point tensors of nested dictionaries, by their joined names: {"net": {"w": t}} -> {"net.w": t}.

    Names lose the `module` and `_orig_mod` of wrappers. Raises CheckpointError when there is no end to them, or none.
    """
    found: dict[str, Tensor] = {}
    for visited, (name, value) in enumerate(_leaves(content, ())):
        if visited == MAX_ENTRIES:
            raise CheckpointError(f"{path} has more than {MAX_ENTRIES} entries; save the generator's state_dict alone.")
        if isinstance(value, Tensor) and value.is_floating_point() and _is_plain(value):
            found[".".join(part for part in name.split(".") if part not in _WRAPPERS)] = value.detach()
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
    plain = {
        name: tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    for name, tensor in plain.items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{path} has NaN or infinite values in {name!r}; its training broke down, use an earlier file."
            )
    return plain


def write_safetensors(path: Path, weights: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write `path` atomically. Raises CheckpointError on a full disk."""
    try:
        with atomic_file(path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial, metadata)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} could not be written ({first_line(error)}); free some space.") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        if len(names) > MAX_ENTRIES:
            raise CheckpointError(f"{path} has more than {MAX_ENTRIES} entries; save the generator's weights alone.")
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def _check_archive(path: Path) -> None:
    """Refuse a torch archive that unpacks to more than it should."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_BYTES:
        raise CheckpointError(f"{path} unpacks to {unpacked / 2**30:.1f} GiB, expected at most {MAX_BYTES >> 30}.")


def _why_refused(path: Path, error: Exception) -> str:
    if "TorchScript" in str(error):
        kind = "a TorchScript program"
    elif isinstance(error, pickle.UnpicklingError) and (found := _GLOBAL.search(str(error))):
        kind = f"Python objects ({found[1]})"
    else:
        return f"{path} is damaged or no .pth, .pt or .safetensors file of weights; copy it again, or name another."
    return (
        f"{path} holds {kind}, which could run any code, so it is not opened; where it was trained, save the weights "
        f"alone with torch.save(generator.state_dict(), 'G.pth')."
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor has its values here, in rows; a file may also hold sparse, nested and valueless ones."""
    return tensor.layout is torch.strided and not tensor.is_nested and tensor.device.type == "cpu"


def _leaves(content: object, above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every value that is no dictionary, and how it is called; a dictionary in too many others counts as one value."""
    if isinstance(content, Mapping) and len(above) < _MAX_DEPTH:
        for name, value in content.items():
            yield from _leaves(value, (*above, str(name)))
    else:
        yield ".".join(above), content
