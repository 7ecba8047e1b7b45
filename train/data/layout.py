"""Where a data set keeps its pictures, whoever arranged it.

    DATA/trainA      DATA/trainB       as published data sets have it, in any case; or train/A, A/train, A
    DATA/summer      DATA/winter       by the domains "summer,winter", also train/summer and summer/train
    DATA/summer      DATA/winter       unnamed, where DATA or DATA/train holds no other folders of pictures
    DATA/inner/...                     any of these, where `inner` is all that DATA holds
    DATA/trainA/img/*.jpg              pictures one or two folders further down, where there is one way

testA and testB are looked for in the same places.
"""

from collections.abc import Iterator
from pathlib import Path

from cyclegan_edge.errors import ConfigError, DataError
from cyclegan_edge.images import list_images

ASIDE = "aside"  # folder in a data set where `data fix` moves what should not stay
_DEPTH = 3  # folders that hold nothing but one folder
_SPLITS = ("train", "test", "val", "truth")  # a folder whose name begins so is no domain of its own


def split_domains(domains: str) -> tuple[str, str]:
    """ "summer,winter" as the names of A and B. Raises ConfigError."""
    a, comma, b = (part.strip() for part in domains.partition(","))
    if not (a and comma and b) or "," in b:
        raise ConfigError(
            f"domains is {domains!r}, expected the names of two domains with a comma, as in summer,winter."
        )
    return a, b


def find_folder(data: Path, name: str, domains: str = "") -> Path | None:
    """The folder with the pictures of `name`, which is trainA, trainB, testA or testB; None when there is none.

    `domains`: the names of the folders of A and B, as in "summer,winter"; empty: see the top of this file. Raises
    ConfigError for others.
    """
    split, letter = name[:-1], name[-1]
    number = "AB".index(letter)
    own = split_domains(domains)[number] if domains else letter
    for root in _with_only_children(data):
        for parts in ((f"{split}{own}",), (split, own), (own, split), (own,) if split == "train" else ()):
            if parts and (folder := _below(root, parts)):
                return _with_pictures(folder)
        parent = _below(root, (split,)) or (root if split == "train" else None)
        pair = [] if domains or parent is None else _folders_of_pictures(parent)
        if len(pair) == 2 and not any(folder.name.lower().startswith(_SPLITS) for folder in pair):
            return _with_pictures(pair[number])
    return None


def require_folder(data: Path, name: str, domains: str = "") -> Path:
    """As `find_folder`. Raises DataError, which says what was found instead and what to do."""
    folder = find_folder(data, name, domains)
    if folder is not None:
        return folder
    if not data.is_dir():
        raise DataError(
            f"{data} is not there; name the folder that holds trainA and trainB, or make one with "
            f"`cyclegan-edge data scenes --out scenes`."
        )
    asked = " and ".join(split_domains(domains)) if domains else "trainA and trainB"
    found = _folders_of_pictures(data)
    counted = ", ".join(f"{folder.name} ({len(list_images(_with_pictures(folder)))} pictures)" for folder in found)
    if len(found) >= 2:
        remedy = f"name the two with `--domains {found[0].name},{found[1].name}`"
    else:
        remedy = f"put the pictures of the two domains into {data / 'trainA'} and {data / 'trainB'}"
    raise DataError(
        f"{data} has no folder {name}, expected {asked} with the pictures of the two domains, and holds "
        f"{counted or 'no folder of pictures'}; {remedy}."
    )


def _with_only_children(data: Path) -> Iterator[Path]:
    """`data`, and the folder that is all it holds, and so on."""
    for _ in range(_DEPTH):
        yield data
        inner = _folders(data)
        if len(inner) != 1:
            return
        data = inner[0]


def _below(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """folder/part/..., in that case or else in any."""
    for part in parts:
        fitting = [inner for inner in _folders(folder) if inner.name.lower() == part.lower()]
        exact = [inner for inner in fitting if inner.name == part]
        if not fitting:
            return None
        folder = (exact or fitting)[0]
    return folder


def _with_pictures(folder: Path) -> Path:
    """`folder`, or the one in it that holds its pictures."""
    return next((inner for inner in _with_only_children(folder) if list_images(inner)), folder)


def _folders_of_pictures(folder: Path) -> list[Path]:
    return [inner for inner in _folders(folder) if list_images(_with_pictures(inner))]


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))
    return sorted(inner for inner in found if inner.name != ASIDE)
