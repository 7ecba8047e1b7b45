"""A picture becomes what the networks see: bicubic resize, random crop, flip with probability 1/2."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cyclegan_edge.contract import Picture, Size
from cyclegan_edge.errors import ConfigError, ImageError

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as Pillow's mode L

Mode = Literal[
    "resize_and_crop",
    "short_side_and_crop",
    "scale_width_and_crop",
    "crop",
    "scale_width",
    "scale_short_side",
    "none",
]

MAX_LOAD_SIZE = 1 << 15  # px
MAX_SCALED = 1 << 20  # px, side of a picture that a crop is cut from; only the crop is computed
MAX_ASPECT = 16  # of a picture that is scaled by one side and trained on whole
MAX_WHOLE = (
    1 << 24
)  # px, of a picture that is trained on whole: 0.2 GB as the networks' input, and many times that in them
MAX_WORKERS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class PicturesConfig:
    """How pictures are read and cropped.

    resize_and_crop        to (load_size, load_size), then a random crop of (size, size); the aspect is lost
    short_side_and_crop    the short side to load_size, then a random crop; the aspect is kept
    scale_width_and_crop   the width to load_size, then a random crop; the aspect is kept
    crop                   a random crop at the picture's own scale
    scale_width            the width to load_size, whole
    scale_short_side       the short side to load_size, whole
    none                   whole, at its own scale

    A picture too small for its crop is enlarged until it is not. A whole picture is rounded to sides that the generator
    can take.
    """

    mode: Mode = "resize_and_crop"
    load_size: int | None = None  # px; none: 1.12 times the crop
    flip: bool = True  # half of the pictures, left to right
    colour_a: Literal["rgb", "grey"] = "rgb"  # "grey" trains on one channel: grey to colour with colour_b = "rgb"
    colour_b: Literal["rgb", "grey"] = "rgb"
    workers: int = 2  # threads that decode and resize
    cache_mib: int = 4096  # memory for decoded pictures, kept between epochs; what does not fit is decoded every time

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= MAX_WORKERS:
            raise ConfigError(f"pictures.workers is {self.workers}, expected 0 to {MAX_WORKERS}.")
        if self.cache_mib < 0:
            raise ConfigError(f"pictures.cache_mib is {self.cache_mib}, expected 0 or more.")
        if self.load_size is not None and not 1 <= self.load_size <= MAX_LOAD_SIZE:
            raise ConfigError(f"pictures.load_size is {self.load_size}, expected 1 to {MAX_LOAD_SIZE}.")

    @property
    def crops(self) -> bool:
        """Whether every crop has the same size."""
        return self.mode.endswith("crop")

    @property
    def channels_a(self) -> int:
        """Channels of a picture of A."""
        return 1 if self.colour_a == "grey" else 3

    @property
    def channels_b(self) -> int:
        """Channels of a picture of B."""
        return 1 if self.colour_b == "grey" else 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Crops:
    """Where the crop of a picture lies."""

    pictures: PicturesConfig
    load_size: int  # px
    size: int  # px, side of the random crop
    multiple: int  # px: the sides of a whole picture are multiples of this
    seed: int
    smallest: int = 1  # px: no side of a whole picture is shorter

    def check(self, picture: Picture, name: str) -> Picture:
        """`picture`. Raises ImageError, which names it, where `place` makes it too large or too small to train on.

        A picture of 65535x1 px grows by its aspect ratio, to 286x18743010 where its short side becomes 286.
        """
        height, width, _ = picture.shape
        full = self._scaled(height, width)
        whole = not self.pictures.crops
        wrong = ""
        if whole and self.pictures.mode != "none" and max(full) > MAX_ASPECT * min(full):
            wrong = f"more than {MAX_ASPECT} times as long as wide"
        elif max(full) > MAX_SCALED or (whole and full[0] * full[1] > MAX_WHOLE):
            wrong = f"more than {f'{MAX_WHOLE / 1e6:.1f} megapixels' if whole else f'{MAX_SCALED} px a side'}"
        elif whole and min(full) < self.smallest:
            wrong = f"less than {self.smallest} px a side"
        if wrong:
            raise ImageError(
                f"{name} has {width}x{height} px, which pictures.mode={self.pictures.mode} makes {full[1]}x{full[0]}, "
                f"{wrong}; crop or remove it, or choose another mode."
            )
        return picture

    def place(self, height: int, width: int, random: np.random.Generator) -> tuple[Size, tuple[int, int, int, int]]:
        """(height, width) to resize a picture to, and the (top, left, height, width) of it that is used."""
        full = self._scaled(height, width)
        if not self.pictures.crops:
            return full, (0, 0, *full)
        top, left = (int(random.integers(side - self.size + 1)) for side in full)
        return full, (top, left, self.size, self.size)

    def _scaled(self, height: int, width: int) -> Size:
        """(height, width) to resize a picture to."""
        short, load = min(height, width), self.load_size
        match self.pictures.mode:
            case "resize_and_crop":
                full = load, load
            case "short_side_and_crop" | "scale_short_side":
                full = height * load // short, width * load // short
            case "scale_width_and_crop" | "scale_width":
                full = height * load // width, load
            case "crop" | "none":
                full = height, width
        if not self.pictures.crops:
            height, width = (max(1, round(side / self.multiple)) * self.multiple for side in full)
            return height, width
        if min(full) < self.size:
            full = height * self.size // short, width * self.size // short
        return full
