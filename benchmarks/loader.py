"""The training loader against the one of the reference implementation. Writes benchmarks/loader.md.

    python benchmarks/loader.py FOLDER        FOLDER holds trainA/ and trainB/

The reference's loader is torch's DataLoader over Pillow: open, convert to RGB, bicubic resize, random crop, flip,
ToTensor, Normalize(0.5, 0.5). Both deliver batches of one pair with the same number of workers, and the pairs are
thrown away.
"""

import argparse
import platform
import random
import time
from collections.abc import Iterable
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from preprocess import cpu_name
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.train.data.cache import PictureCache
from cyclegan_edge.train.data.crops import Crops, PicturesConfig
from cyclegan_edge.train.data.folders import FolderPairs, Read, find_pictures
from cyclegan_edge.train.data.loader import batches

REPORT = Path(__file__).with_suffix(".md")
ROUNDS = 3  # the loaders take turns; the median round counts
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


def measure(data: Path, workers: int, count: int) -> dict[str, float]:
    """Median pairs per second of each loader at 286 -> 256."""
    pillow = PillowPairs(data, 286, 256)
    cache = PictureCache("ram", limit_mib=4096)
    folders = find_pictures(data, read=cache.read)  # as in training: the check before the first step fills the cache
    crops = Crops(pictures=PicturesConfig(), load_size=286, size=256, multiple=4, seed=0)

    def ours(read: Read) -> Iterable[Any]:
        return batches(FolderPairs(folders, 0, read), crops, batch=1, start=0, workers=workers)

    loaders = {
        "Pillow, DataLoader": lambda: DataLoader(pillow, batch_size=1, shuffle=True, num_workers=workers),
        "ours, decoding": lambda: ours(read_image),
        "ours, cache=ram": lambda: ours(cache.read),
    }
    rounds = [{name: pace(make(), count) for name, make in loaders.items()} for _ in range(ROUNDS)]
    return {name: sorted(one[name] for one in rounds)[ROUNDS // 2] for name in loaders}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Training loader",
        "",
        "Written by `python benchmarks/loader.py FOLDER`; run it again instead of editing. Pairs per second, median of",
        f"{ROUNDS} rounds of {arguments.pairs} pairs in turns, batches of one, 286 -> 256, JPEG files of",
        f"{arguments.data.name}.",
        f"CPU: {cpu_name()}, {torch.get_num_threads()} thread each; Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("pillow", "torch", "torchvision", "opencv-python"))
        + ".",
        "",
        "| workers | Pillow, DataLoader | ours, decoding | ours, cache=ram | decoding / Pillow | cache / Pillow |",
        "|---|---|---|---|---|---|",
    ]
    for workers in (1, 2):
        found = measure(arguments.data, workers, arguments.pairs)
        pillow, decoding, cached = found.values()
        lines.append(
            f"| {workers} | {pillow:.0f} | {decoding:.0f} | {cached:.0f} "
            f"| {decoding / pillow:.1f} | {cached / pillow:.1f} |"
        )
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
