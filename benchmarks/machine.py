"""What every benchmark says of the machine and the libraries, and how its tables look."""

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()


def versions(*packages: str) -> str:
    """ "Python 3.11.7, torch 2.14.1"."""
    return ", ".join((f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown, without a line end."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows))
