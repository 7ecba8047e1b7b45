"""What this machine is: its name, its CPU and the class that engines tell CPUs apart by. Raises nothing."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_NAMES = ("/proc/device-tree/model", "/sys/class/dmi/id/product_name")  # of a board, of a PC; never the host name

# The class of a CPU: the first whose flags it has all, the fastest arithmetic first. x86-64, then 64-bit ARM.
_CLASSES: tuple[tuple[str, frozenset[str]], ...] = (
    ("amx", frozenset({"amx_bf16", "amx_int8"})),
    ("avx512-bf16", frozenset({"avx512_bf16", "avx512_vnni"})),
    ("avx512-vnni", frozenset({"avx512_vnni"})),
    ("avx512", frozenset({"avx512f", "avx512bw", "avx512vl"})),
    ("avx2-vnni", frozenset({"avx2", "avx_vnni"})),
    ("avx2", frozenset({"avx2", "fma"})),
    ("sse", frozenset({"sse2"})),
    ("neon-bf16", frozenset({"bf16", "i8mm"})),
    ("neon-dot", frozenset({"asimddp"})),
    ("neon", frozenset({"asimd"})),
)
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_HALF = frozenset({"avx512_fp16", "amx_fp16", "fphp"})
_TOLD = frozenset().union(*(flags for _, flags in _CLASSES), _BFLOAT16, _HALF)


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A machine, in what decides how fast an engine is on it."""

    name: str  # "NVIDIA Jetson Orin Nano Developer Kit"
    cpu: str  # "AMD EPYC"
    cpu_class: str  # "avx512-bf16"
    flags: tuple[str, ...]  # those of `cpu_flags` that say which arithmetic it has
    cores: int  # that this process may use
    memory_mb: int
    system: str  # "Linux 6.1.0 x86_64"


def this_machine() -> Machine:
    """The machine this runs on."""
    flags = cpu_flags()
    return Machine(
        name=_first_text(_NAMES) or cpu_name(),
        cpu=cpu_name(),
        cpu_class=cpu_class(flags),
        flags=tuple(sorted(flags & _TOLD)),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def cpu_name() -> str:
    """What the CPU calls itself; on boards that do not say, the board."""
    names = _cpuinfo("model name") or _cpuinfo("Model") or _cpuinfo("CPU part")
    return names or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """The features of the CPU in the words of Linux: "avx2", "asimddp". Empty where the system does not say."""
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features")).split())


def cpu_class(flags: frozenset[str]) -> str:
    """ "avx512-bf16": what a CPU with these flags computes best with; "other" where nothing is known."""
    return next((name for name, needed in _CLASSES if needed <= flags), "other")


def has_bfloat16(flags: frozenset[str]) -> bool:
    """Whether the CPU itself multiplies bfloat16."""
    return bool(_BFLOAT16 & flags)


def has_half(flags: frozenset[str]) -> bool:
    """Whether the CPU itself computes in float16."""
    return bool(_HALF & flags)


def _cpuinfo(field: str) -> str:
    """The first value of a field of /proc/cpuinfo."""
    lines = _first_text(("/proc/cpuinfo",)).splitlines()
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == field), "")


def _first_text(paths: tuple[str, ...]) -> str:
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace").strip(" \0\n")
        except OSError:
            continue
        if text:
            return text
    return ""
