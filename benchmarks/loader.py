"""The training loader against the one of the reference implementation. Writes benchmarks/loader.md.

    python benchmarks/loader.py FOLDER        FOLDER holds trainA/ and trainB/

The reference's loader is torch's DataLoader over Pillow: open, convert to RGB, bicubic resize, random crop, flip,
ToTensor, Normalize(0.5, 0.5). Both deliver batches of one pair with the same number of workers, and the pairs are
thrown away.
"""

import argparse
import random
import statistics
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from machine import cpu_name, table, versions
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.train.data.cache import PictureCache
from cyclegan_edge.train.data.crops import Crops, PicturesConfig
from cyclegan_edge.train.data.folders import FolderPairs, Read, find_pictures
from cyclegan_edge.train.data.loader import batches

REPORT = Path(__file__).with_suffix(".md")
ROUNDS = 3  # the loaders take turns; the median round counts
LOADERS = ("Pillow, DataLoader", "ours, decoding", "ours, cache=ram")
WARM_UP = 50  # pairs before the clock starts: workers start, files come into the page cache


class PillowPairs(Dataset[Any]):
    """What the reference's UnalignedDataset does."""

    def __init__(self, data: Path, load: int, size: int) -> None:
        self.a, self.b = list_images(data / "trainA"), list_images(data / "trainB")
        self.prepare = transforms.Compose(
            [
                transforms.Resize([load, load], transforms.InterpolationMode.BICUBIC),
                transforms.RandomCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        return max(len(self.a), len(self.b))

    def __getitem__(self, index: int) -> Any:
        paths = self.a[index % len(self.a)], random.choice(self.b)
        return tuple(self.prepare(Image.open(path).convert("RGB")) for path in paths)


def pace(pairs: Iterable[Any], count: int) -> float:
    """Pairs per second over `count` pairs after the warm-up."""
    stream = iter(pairs)
    for _ in islice(stream, WARM_UP):
        pass
    began = time.perf_counter()
    taken = sum(1 for _ in islice(stream, count))
    return taken / (time.perf_counter() - began)


def measure(data: Path, workers: int, count: int) -> list[float]:
    """Median pairs per second of each of LOADERS at 286 -> 256."""
    pillow = PillowPairs(data, 286, 256)
    cache = PictureCache(4096)
    folders = find_pictures(data, read=cache.read)  # as in training: the check before the first step fills the cache
    crops = Crops(pictures=PicturesConfig(), load_size=286, size=256, multiple=4, seed=0)

    def ours(read: Read) -> Iterable[Any]:
        return batches(FolderPairs(folders, 0, read), crops, batch=1, start=0, workers=workers)

    def one_round() -> list[float]:
        theirs = DataLoader(pillow, batch_size=1, shuffle=True, num_workers=workers)
        return [pace(pairs, count) for pairs in (theirs, ours(read_image), ours(cache.read))]

    return [statistics.median(paces) for paces in zip(*(one_round() for _ in range(ROUNDS)), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for workers in (1, 2):
        pillow, *ours = measure(arguments.data, workers, arguments.pairs)
        paces = (f"{pace:.0f}" for pace in (pillow, *ours))
        rows.append([str(workers), *paces, *(f"{pace / pillow:.1f}" for pace in ours)])
    heads = [
        "workers",
        "Pillow, DataLoader",
        "ours, decoding",
        "ours, cache=ram",
        "decoding / Pillow",
        "cache / Pillow",
    ]
    text = f"""# Training loader

Written by `python benchmarks/loader.py FOLDER`; run it again instead of editing. Pairs per second, median of {ROUNDS}
rounds of {arguments.pairs} pairs in turns, batches of one, 286 -> 256, JPEG files of {arguments.data.name}.
CPU: {cpu_name()}, {torch.get_num_threads()} thread each;
{versions("pillow", "torch", "torchvision", "opencv-python")}.

{table(heads, rows)}
"""
    REPORT.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
