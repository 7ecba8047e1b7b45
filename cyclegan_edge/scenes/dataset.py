"""A folder of unpaired pictures, as train/ reads it, and the truth that real unpaired data never has.

trainA/ testA/   summer        trainB/ testB/   winter, of other worlds        truthB/   the winter of testA/
"""

from collections.abc import Iterator
from pathlib import Path

from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import DataError
from cyclegan_edge.images import write_image
from cyclegan_edge.scenes.camera import LARGEST, SMALLEST, Camera
from cyclegan_edge.scenes.landscape import Landscape, Season

MOST = 100_000  # pictures per folder; also how far the worlds of two folders lie apart


def _refuse_bad(out: Path, *, train: int, test: int, size: int, seed: int) -> None:
    for name, value, low, high in (
        ("train", train, 1, MOST),
        ("test", test, 1, MOST),
        ("size", size, SMALLEST, LARGEST),
    ):
        if not low <= value <= high:
            raise DataError(f"{name} is {value}, expected {low} to {high}; choose a number in between.")
    if seed < 0:
        raise DataError(f"seed is {seed}, expected 0 or more; choose another number.")
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, expected a folder or nothing; choose another place.")
    if out.is_dir() and any(out.iterdir()):
        raise DataError(
            f"{out} is not empty, expected an empty folder or none; choose another place or empty it first."
        )


def write_dataset(out: Path, *, train: int = 200, test: int = 40, size: int = 256, seed: int = 0) -> Iterator[Path]:
    """Fill `out` and yield every picture once it is there: 2 * train + 3 * test of them, PNG, `size` px square.

    train, test   pictures per folder, 1..100000
    size          side in px, 32..2048
    seed          >= 0; the same seed gives the same bytes, no world is in two folders, but for truthB/ and testA/

    The arguments are checked when it is called, the pictures are made as the iterator is advanced.
    Raises DataError when a number is out of bounds or `out` is not empty, SinkError when it cannot be written.
    """
    _refuse_bad(out, train=train, test=test, size=size, seed=seed)
    return _pictures(out, train=train, test=test, size=size, seed=seed)


def _pictures(out: Path, *, train: int, test: int, size: int, seed: int) -> Iterator[Path]:
    plan: tuple[tuple[str, Season, int], ...] = (
        ("trainA", "summer", train),
        ("trainB", "winter", train),
        ("testA", "summer", test),
        ("testB", "winter", test),
    )
    for part, (folder, season, count) in enumerate(plan):
        for number in range(count):
            name = f"scene_{number + 1:04d}.png"
            camera = Camera(Landscape.from_seed((seed * len(plan) + part) * MOST + number), (size, size))
            yield _write(out / folder / name, camera.frame(0.0, season))
            if folder == "testA":
                yield _write(out / "truthB" / name, camera.frame(0.0, "winter"))


def _write(path: Path, picture: Picture) -> Path:
    write_image(path, picture)
    return path
