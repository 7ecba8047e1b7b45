"""What a world is: its numbers, the height and the materials of the ground at every place.

Lengths are metres. X runs to the right, Z away from the viewer, heights upwards; the meadow under the viewer is at 0.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cyclegan_edge.scenes import tiles

Floats = npt.NDArray[np.float32]
Season = Literal["summer", "winter"]
Feature = Literal["lake", "road", "fields", "forest"]

NEAR, FAR = 10.0, 15000.0  # m, first and last distance that is drawn
MATERIALS = (
    "meadow", "dry meadow", "crop", "wheat", "soil", "rock", "alpine", "conifer", "conifer top", "broadleaf",
    "broadleaf top", "road", "shore",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Landscape:
    """Everything that defines a world. Summer and winter share it, so they share every outline."""

    seed: int
    feature: Feature  # what fills the middle distance
    horizon: float  # eye level, as a fraction of the picture height from the top
    eye: float  # m, height of the viewer
    drop: float  # m, how far the ground falls from the viewer to the middle distance
    hills: float  # m, height of the hills at 1 km
    mountains: float  # m, height of the mountains at 8 km; 0 is a plain
    forest: float  # share of the hills under trees, 0..1
    trees: float  # how many single trees stand near, 0..1
    conifers: float  # share of conifers among the trees, 0..1
    sun_azimuth: float  # radians from the line of sight, positive to the right
    sun_elevation: float  # radians
    cloud_cover: float  # 0..1
    haze: float  # m, distance at which 63 % of the contrast is lost
    dryness: float  # 0..1, lush to yellow
    offsets: tuple[float, ...]  # texels: where this world lies in each tile

    @classmethod
    def from_seed(cls, seed: int) -> "Landscape":
        """The world number `seed` (any integer >= 0)."""
        rng = np.random.default_rng((0x5CE0E, seed))
        features: tuple[Feature, ...] = ("lake", "lake", "lake", "road", "road", "fields", "fields", "forest")
        feature = features[int(rng.integers(len(features)))]
        toward_sun = rng.uniform() < 0.15
        side = 1 if rng.uniform() < 0.5 else -1
        azimuth = side * np.radians(rng.uniform(8, 28) if toward_sun else rng.uniform(60, 140))
        elevation = np.radians(rng.uniform(9, 17) if toward_sun else rng.uniform(22, 48))
        alpine = rng.uniform() < 0.7
        return cls(
            seed=seed,
            feature=feature,
            horizon=rng.uniform(0.40, 0.50),
            eye=rng.uniform(6, 10),
            drop=rng.uniform(7, 13) if feature == "lake" else rng.uniform(4, 22),
            hills=rng.uniform(35, 110),
            mountains=rng.uniform(1100, 2000) if alpine else rng.uniform(150, 500),
            forest=rng.uniform(0.6, 0.8) if feature == "forest" else rng.uniform(0.3, 0.6),
            trees=rng.uniform(0.2, 0.75),
            conifers=rng.uniform(0.35, 0.95) if alpine else rng.uniform(0.1, 0.7),
            sun_azimuth=float(azimuth),
            sun_elevation=float(elevation),
            cloud_cover=rng.uniform(0.25, 0.75),
            haze=rng.uniform(7000, 14000),
            dryness=rng.uniform(0.05, 0.6),
            offsets=tuple(float(x) for x in rng.uniform(0, tiles.SIDE, 16)),
        )

    @property
    def sun(self) -> tuple[float, float, float]:
        """Unit vector towards the sun: right, up, away from the viewer."""
        flat = np.cos(self.sun_elevation)
        return (
            float(flat * np.sin(self.sun_azimuth)),
            float(np.sin(self.sun_elevation)),
            float(flat * np.cos(self.sun_azimuth)),
        )

    @property
    def water_level(self) -> float:
        """Height of the lake in metres; far below everything where there is none."""
        return -self.drop + 2.2 if self.feature == "lake" else -1e4


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """The land at many places at once; every array is float32 and has the shape of the places."""

    height: Floats  # m, of the soil or the lake bed
    wide: Floats  # (..., 4) noise over 2.4 km
    local: Floats  # (..., 4) noise over 300 m
    ridge: Floats  # 0..1, mountain relief


def smooth(x: Floats, low: float, high: float) -> Floats:
    """0 below low, 1 above high, a smooth ramp between; high may be the smaller one."""
    t = np.clip((x - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


class Survey:
    """Reads the tiles for one landscape; `x` is relative to a viewer who stands at `view` metres (any size)."""

    def __init__(self, land: Landscape) -> None:
        self.land = land

    def read(self, tile: Floats, x: Floats, z: Floats, view: float, *, period: float, place: int) -> Floats:
        """`tile` laid over the world once every `period` metres, (h, w) or (h, w, channels)."""
        k = tiles.SIDE / period
        start = (view * k + self.land.offsets[place]) % tiles.SIDE  # in double precision: the walk is endless
        return tiles.sample(tile, x * np.float32(k) + np.float32(start), z * np.float32(k) + self.land.offsets[place + 1])

    def ground(self, x: Floats, z: Floats, view: float) -> Ground:
        """Height and noise at `x`, `z` (m, float32, same 2-d shape)."""
        land = self.land
        wide = self.read(tiles.fbm(), x, z, view, period=2400, place=0)
        local = self.read(tiles.fbm(), x, z, view, period=310, place=2)
        ridge = self.read(tiles.ridges(), x, z, view, period=34000, place=4)
        valley = -land.drop * smooth(z, NEAR, 75)
        if land.feature == "lake":
            far_shore = land.drop * 1.1 * smooth(z + 60 * wide[..., 0], 330, 560)
            valley = valley + far_shore + 1.3 * local[..., 0] * smooth(z, 15, 60)
        else:
            valley = valley + (0.35 + 1.5 * smooth(z, 30, 250)) * local[..., 0]
        start = 420.0 if land.feature == "lake" else 180.0
        rolling = land.hills * smooth(z, start, 2300) * (0.55 + 0.5 * wide[..., 0])
        peaks = land.mountains * smooth(z, 2200, 8000) * (0.16 + 0.84 * ridge)
        foothills = 0.13 * min(land.mountains, 900) * smooth(z, 900, 3500) * np.maximum(wide[..., 1] + 0.4, 0)
        return Ground(height=valley + rolling + peaks + foothills, wide=wide, local=local, ridge=ridge)

    def cover(self, x: Floats, z: Floats, view: float, ground: Ground) -> tuple[Floats, Floats, Floats]:
        """Share of forest 0..1, share of conifers in it 0..1, and height of the canopy in metres."""
        land = self.land
        crowns = self.read(tiles.crowns(), x, z, view, period=420, place=6)
        bias = (land.forest - 0.5) * 2.4
        wish = ground.wide[..., 1] + 0.35 * ground.local[..., 1] + bias
        treeline = smooth(ground.height + 90 * ground.local[..., 2], 950, 650)
        forest = smooth(wish, 0.0, 0.25) * treeline * smooth(z, 150, 230)
        if land.feature == "lake":
            forest = forest * smooth(ground.height - land.water_level, 0.4, 1.5)
        needles = smooth(ground.wide[..., 2] + 0.3 * ground.local[..., 3] + (land.conifers - 0.5) * 3.6, -0.25, 0.25)
        needles = np.maximum(needles, smooth(ground.height, 220, 420))
        bump = crowns[..., 1] + needles * (crowns[..., 0] * 1.35 - crowns[..., 1])
        canopy = forest * (5 + 12 * bump)
        return forest, needles, canopy

    def materials(self, x: Floats, z: Floats, view: float, ground: Ground, forest: Floats, needles: Floats,
                  canopy: Floats, steep: Floats) -> Floats:  # fmt: skip
        """How much of each of MATERIALS is seen, float32 (materials, h, w), adding up to 1 everywhere.

        `steep` is the slope of the soil in metres per metre.
        """
        land = self.land
        weight = np.zeros((len(MATERIALS), *x.shape), np.float32)
        at = dict(zip(MATERIALS, weight, strict=True))
        dry = smooth(0.55 * ground.local[..., 2] + 0.4 * ground.wide[..., 3] + (land.dryness - 0.5) * 2, -0.7, 0.9)
        at["dry meadow"][:] = dry
        at["meadow"][:] = 1 - dry
        if land.feature != "forest":
            patch = self.read(tiles.fields(), x, z * np.float32(0.6), view, period=2600, place=8)
            farmed = smooth(z, 110, 170) * smooth(steep, 0.30, 0.16) * smooth(ground.height, 170, 110)
            kind = patch[..., 0]
            for name, low, high in (("crop", 0.30, 0.48), ("wheat", 0.48, 0.72), ("soil", 0.72, 0.86)):
                here = farmed * ((kind > low) & (kind <= high))
                weight[:2] *= 1 - here
                at[name][:] = here
            hedge = farmed * patch[..., 1] * 0.9
            weight *= 1 - hedge
            at["broadleaf"][:] += hedge
        if land.feature == "road":
            middle = 46 + 9 * np.sin((x + np.float32(view % 5026.548)) * np.float32(1 / 80)) + 4 * ground.local[..., 3]
            self._paint(weight, "road", smooth(np.abs(z - middle), 4.2, 3.0))
        if land.feature == "lake":
            self._paint(weight, "shore", smooth(ground.height - land.water_level, 0.75, 0.2) * smooth(z, FAR, 900))
        self._paint(weight, "alpine", smooth(ground.height + 80 * ground.local[..., 2], 420, 700))
        rocky = smooth(steep + 0.10 * ground.local[..., 0], 0.52, 0.75) * smooth(z, 300, 900)
        self._paint(weight, "rock", np.maximum(rocky, smooth(ground.height + 150 * ground.local[..., 3], 1000, 1500) * 0.75))
        weight *= 1 - forest
        top = smooth(canopy, 8, 17) * np.float32(0.9)
        for name, share in (("conifer", needles), ("broadleaf", 1 - needles)):
            at[name] += forest * share * (1 - top)
            at[f"{name} top"] += forest * share * top
        return weight

    @staticmethod
    def _paint(weight: Floats, name: str, share: Floats) -> None:
        weight *= 1 - share
        weight[MATERIALS.index(name)] += share
