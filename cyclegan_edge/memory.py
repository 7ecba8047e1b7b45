"""How much memory there is to be had."""

import contextlib
from pathlib import Path


def available_memory(*, swap: bool = False) -> int:
    """Bytes that can be had without swapping, or with all of `swap`, by the machine and by the limit of its container,
    where Linux says so.
    """
    sizes = [1 << 62]
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        told = {words[0]: int(words[1]) << 10 for words in lines}
        sizes.append(told["MemAvailable:"] + swap * told["SwapFree:"])
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(sizes)
