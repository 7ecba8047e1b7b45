"""Moves aside what `check` found: pictures that are there twice, and files that cannot be read. Nothing is deleted.

    DATA/aside/testA/12.jpg    was DATA/testA/12.jpg

Of equal pictures one stays: one to train on rather than to test with, the first by name. A leak between the two domains
of training leaves both, because only a person knows which domain it belongs to.
"""

from dataclasses import dataclass
from pathlib import Path

from cyclegan_edge.errors import SinkError
from cyclegan_edge.train.data.check import FOLDERS, DataCheck
from cyclegan_edge.train.data.layout import ASIDE
from cyclegan_edge.train.data.pairs import DOMAINS


@dataclass(frozen=True, slots=True)
class Moved:
    """A file that was moved aside."""

    file: Path
    to: Path
    why: str


def fix(found: DataCheck) -> tuple[Moved, ...]:
    """Move aside what should not stay. Raises SinkError when a file cannot be moved; those before it were."""
    reasons: dict[Path, str] = {}
    for folder in found.folders:
        reasons |= {broken.path: "cannot be read" for broken in folder.corrupt}
    domain = {picture.path: folder.name for folder in found.folders for picture in folder.pictures}
    for group in (*found.duplicates, *found.leaks):
        kept = sorted(group, key=lambda path: (FOLDERS.index(domain[path]), path))
        stay = {kept[0]} | ({path for path in kept if domain[path] in DOMAINS} if _crosses(group, domain) else set())
        reasons |= {path: f"is {kept[0].relative_to(found.data)} again" for path in kept if path not in stay}
    return tuple(_move(path, found.data, why) for path, why in sorted(reasons.items()))


def _crosses(group: tuple[Path, ...], domain: dict[Path, str]) -> bool:
    return {domain[path] for path in group} >= set(DOMAINS)


def _move(file: Path, data: Path, why: str) -> Moved:
    to = data / ASIDE / file.relative_to(data)
    number = 1
    while to.exists():  # of an earlier time
        number += 1
        to = to.with_name(f"{file.stem}-{number}{file.suffix}")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        file.rename(to)
    except OSError as error:
        raise SinkError(f"{file} cannot be moved to {to} ({error.strerror}); check who may write there.") from error
    return Moved(file, to, why)
