"""A folder of unpaired pictures, as train/ reads it, and the truth that real unpaired data never has.

trainA/ testA/   summer        trainB/ testB/   winter, of other worlds        truthB/   the winter of testA/
"""

from collections.abc import Iterator
from pathlib import Path

from cyclegan_edge.errors import DataError
from cyclegan_edge.images import write_image
from cyclegan_edge.scenes.camera import check_world, render
from cyclegan_edge.scenes.landscape import Season

MOST = 100_000  # pictures per folder; also how far the worlds of two folders lie apart


def write_dataset(out: Path, *, train: int = 200, test: int = 40, size: int = 256, seed: int = 0) -> Iterator[Path]:
    """Fill `out` and yield every picture once it is there: 2 * train + 3 * test of them, PNG, `size` px square.

    train, test   pictures per folder, 1..100000
    size          side in px, 32..2048
    seed          >= 0; the same seed gives the same bytes, no world is in two folders, but for truthB/ and testA/

    The arguments are checked when it is called, the pictures are made as the iterator is advanced.
    Raises DataError when a number is out of bounds or `out` is not empty, SinkError when it cannot be written.
    """
    for name, value in (("train", train), ("test", test)):
        if not 1 <= value <= MOST:
            raise DataError(f"{name} is {value}, expected 1 to {MOST}; choose a number in between.")
    check_world(seed, (size, size))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; choose another place, or empty it first.")
    return _pictures(out, train=train, test=test, size=size, seed=seed)


def _pictures(out: Path, *, train: int, test: int, size: int, seed: int) -> Iterator[Path]:
    plan: tuple[tuple[str, Season, int], ...] = (
        ("trainA", "summer", train),
        ("trainB", "winter", train),
        ("testA", "summer", test),
        ("testB", "winter", test),
    )

    def write(folder: str, number: int, season: Season) -> Path:
        path = out / folder / f"scene_{number + 1:04d}.png"
        write_image(path, render(world, season, size=(size, size)))
        return path

    for part, (folder, season, count) in enumerate(plan):
        for number in range(count):
            world = (seed * len(plan) + part) * MOST + number
            yield write(folder, number, season)
            if folder == "testA":
                yield write("truthB", number, "winter")
