"""A file of torch.save, read as data: tensors and plain values within limits, never code.

torch.load(weights_only=True) runs no code, but a small file can still make it take any amount of memory or time. So the
pickle inside is scanned before torch sees it, the checksums of the archive are compared, and what comes out is counted.
"""

import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from cyclegan_edge.errors import CheckpointError

MAX_BYTES = 4 << 30  # that an archive unpacks to, unless the file is larger itself
MAX_PICKLE_BYTES = 64 << 20  # of the pickle in an archive; a generator's has 5 KiB, a training state's some hundreds
MAX_OPCODES = 4_000_000  # of that pickle; a tensor takes about 35
MAX_INTEGER_BITS = 128
MAX_ENTRIES = 100_000  # of all dictionaries and lists; a checkpoint of ours has about 3,000
MAX_DEPTH = 32  # of dictionaries in dictionaries

_ARCHIVE = b"PK\x03\x04"  # the first bytes; before torch 1.6 a file was five pickles and then the values
_LEGACY_PICKLES = 5
_ALLOCATES = re.compile(
    r"(?:__builtin__|builtins)\.bytearray|torch\.(?:cuda\.|sparse\.)*\w*Tensor"
)  # called with a size
_NAMED_BY_TORCH = re.compile(r"GLOBAL ([\w.]+)")  # the class that torch's message is about
_ALONE = "save the weights alone with torch.save(generator.state_dict(), 'G.pth')"
DAMAGED = "is damaged or not a .pth, .pt or .safetensors file of weights; copy it again, or name another"


class _RefusedError(Exception):
    """Its text continues "FILE ..."."""


def read_torch_file(path: Path) -> object:
    """What torch.save wrote to `path`, in either of its formats, on the CPU.

    Raises CheckpointError when the file is damaged, is something else, holds Python objects, or exceeds a limit above.
    """
    start = read_start(path)
    try:
        with path.open("rb") as file:
            if start.startswith(_ARCHIVE):
                _check_archive(file, path.stat().st_size)
            else:
                _check_pickles(file, _LEGACY_PICKLES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about archives and protocols, which the refusals below say better
            content: object = torch.load(path, map_location="cpu", weights_only=True)
        _check_entries(content)
    except _RefusedError as error:
        raise CheckpointError(f"{path} {error}.") from error
    except Exception as error:  # a damaged file raises many kinds, and torch's text about it is a page
        raise CheckpointError(f"{path} {_why_not_loaded(error)}.") from error
    return content


def read_start(path: Path) -> bytes:
    """The first bytes of `path`. Raises CheckpointError for what downloads often leave instead of weights."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its name and permissions.") from error
    if not start:
        raise CheckpointError(f"{path} is empty; copy or download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights themselves; run `git lfs pull` in its repository."
        )
    if re.match(rb"\s*<(?:!doctype|html|\?xml)", start, re.IGNORECASE):
        raise CheckpointError(
            f"{path} is a web page, not weights; open it in a browser to see what the server answered, and download "
            f"the file itself."
        )
    return start


def is_safetensors(start: bytes) -> bool:
    """Whether a file with these first bytes is a safetensors file: eight for the length of a header in JSON."""
    return start[8:9] == b"{"


def check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for NaN or infinity."""
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{path} has NaN or infinite values in {name!r}: its training diverged, so use an earlier file."
            )


def _check_archive(file: IO[bytes], size: int) -> None:
    """Refuse an archive that unpacks to too much, whose pickle is refused, or whose checksums do not match."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > max(MAX_BYTES, size):
            raise _RefusedError(f"unpacks to {unpacked / 2**30:.1f} GiB, expected at most {MAX_BYTES >> 30}; {_ALONE}")
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                if entry.file_size > MAX_PICKLE_BYTES:
                    raise _RefusedError(
                        f"holds a pickle of {entry.file_size >> 20} MiB, expected at most {MAX_PICKLE_BYTES >> 20}; "
                        f"{_ALONE}"
                    )
                with archive.open(entry) as pickled:
                    _check_pickles(pickled, 1)
        if part := archive.testzip():
            raise _RefusedError(
                f"is damaged, the checksum of its part {part} differs; copy it again, or use another file"
            )


def _check_pickles(file: IO[bytes], count: int) -> None:
    """Refuse pickles without end, integers that count nothing, and classes that allocate as much as a file asks for."""
    opcodes = chain.from_iterable(pickletools.genops(file) for _ in range(count))
    for number, (opcode, value, _) in enumerate(opcodes):
        if number == MAX_OPCODES:
            raise _RefusedError(f"holds a pickle of more than {MAX_OPCODES} opcodes; {_ALONE}")
        if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
            raise _RefusedError(
                f"holds an integer of {value.bit_length()} bits, expected at most {MAX_INTEGER_BITS}; use another file"
            )
        if opcode.name == "GLOBAL" and _ALLOCATES.fullmatch(name := str(value).replace(" ", ".")):
            raise _RefusedError(_not_opened(f"Python objects ({name})"))


def _check_entries(content: object) -> None:
    """Refuse what is nested too deeply, or endless because the same dictionary occurs in it again and again."""
    level, entries = [content], 0
    for _ in range(MAX_DEPTH):
        containers = [_values(container) for container in level]
        entries += sum(map(len, containers))
        if entries > MAX_ENTRIES:
            raise _RefusedError(f"holds more than {MAX_ENTRIES} entries; {_ALONE}")
        level = list(chain.from_iterable(containers))
    if level:
        raise _RefusedError(f"holds dictionaries nested more than {MAX_DEPTH} deep; {_ALONE}")


def _values(container: object) -> Collection[object]:
    if isinstance(container, Mapping):
        return container.values()
    return container if isinstance(container, list | tuple | set) else ()


def _why_not_loaded(error: Exception) -> str:
    if "TorchScript" in str(error):
        return _not_opened("a TorchScript program")
    if isinstance(error, pickle.UnpicklingError) and (named := _NAMED_BY_TORCH.search(str(error))):
        return _not_opened(f"Python objects ({named[1]})")
    return DAMAGED


def _not_opened(program: str) -> str:
    return f"holds {program}, which could run any code, so it is not opened; where it was trained, {_ALONE}"
