"""What a world is: its numbers, the height and the materials of the ground at every place.

Lengths are metres. X runs to the right, Z away from the viewer, heights upwards; the meadow under the viewer is at 0.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cyclegan_edge.scenes import tiles
from cyclegan_edge.scenes.tiles import Floats

Viewers = float | npt.NDArray[np.float64]  # m to the right of the picture's middle, (D, 1)
Season = Literal["summer", "winter"]
Feature = Literal["lake", "road", "fields", "forest"]

NEAR, FAR = 11.0, 14000.0  # m, first and last distance that is drawn
MATERIALS = (
    "meadow", "dry meadow", "crop", "wheat", "soil", "rock", "scree", "alpine", "conifer", "conifer top", "broadleaf",
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
        """The world number `seed`, an integer >= 0."""
        rng = np.random.default_rng((0x5CE0E, seed))
        features: tuple[Feature, ...] = ("lake", "lake", "lake", "road", "road", "fields", "fields", "forest")
        feature = features[int(rng.integers(len(features)))]
        toward_sun = rng.uniform() < 0.12
        side = 1 if rng.uniform() < 0.5 else -1
        azimuth = side * np.radians(rng.uniform(8, 28) if toward_sun else rng.uniform(60, 140))
        elevation = np.radians(rng.uniform(12, 19) if toward_sun else rng.uniform(22, 48))
        alpine = rng.uniform() < 0.7
        return cls(
            seed=seed,
            feature=feature,
            horizon=rng.uniform(0.40, 0.50),
            eye=rng.uniform(6, 10),
            drop=rng.uniform(7, 13) if feature == "lake" else rng.uniform(4, 22),
            hills=rng.uniform(50, 190),
            mountains=rng.uniform(1000, 2100) if alpine else rng.uniform(150, 500),
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
    """The land at D distances and W places each; every array is float32 (D, W) unless said otherwise."""

    height: Floats  # m, of the soil or the lake bed
    wide: Floats  # (D, W, 4) noise over 3 km
    local: Floats  # (D, W, 4) noise over 300 m


def smooth(x: npt.NDArray[np.floating], low: float, high: float) -> Floats:
    """0 below low, 1 above high, a smooth ramp between; high may be the smaller one."""
    t = (x - np.float32(low)) * np.float32(1 / (high - low))
    np.clip(t, 0, 1, out=t)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


class Survey:
    """Reads the tiles for one landscape.

    Places are x (D, W), m to the right of the viewer, and z (D, 1), m away and rising. Most of what there is exists
    only from some distance on, so it is computed for those rows only.
    """

    def __init__(self, land: Landscape) -> None:
        self.land = land

    def read(self, tile: Floats, x: Floats, z: Floats, *, period: float, place: int, viewers: Viewers = 0.0) -> Floats:
        """`tile` laid over the world once every `period` metres, (D, W) or (D, W, channels)."""
        k = tiles.SIDE / period
        start = (viewers * k + self.land.offsets[place]) % tiles.SIDE
        v = np.empty_like(x)
        v[:] = z * np.float32(k) + np.float32(self.land.offsets[place + 1])
        return tiles.sample(tile, x * np.float32(k) + np.asarray(start, np.float32), v)

    def ground(self, x: Floats, z: Floats, viewers: Viewers = 0.0) -> Ground:
        """Height of the land and the noise it was made from; with `viewers`, x is counted from each row's own."""
        land = self.land
        wide = self.read(tiles.fbm(), x, z, period=3000, place=0, viewers=viewers)
        local = self.read(tiles.fbm(), x, z, period=310, place=2, viewers=viewers)
        far = _rows(z, 400)
        local[far] *= smooth(z[far], 2500, 400)[..., None]  # finer than the slices there: it would be mere noise
        height = np.empty_like(x)
        height[:] = -land.drop * smooth(z, NEAR, 75)
        if land.feature == "lake":
            height += 1.3 * smooth(z, 15, 60) * local[..., 0]
            far = _rows(z, 150)
            height[far] += land.drop * 1.1 * smooth(z[far] + 60 * wide[far][..., 0], 330, 560)
        else:
            height += (0.35 + 2.2 * smooth(z, 30, 250)) * local[..., 0]
        far = _rows(z, 180)
        rise = land.hills * smooth(z[far], 420 if land.feature == "lake" else 180, 2300)
        height[far] += rise * (0.55 + 0.5 * wide[far][..., 0])
        far = _rows(z, 900)
        rise = 0.13 * min(land.mountains, 900) * smooth(z[far], 900, 3500)
        height[far] += rise * np.maximum(wide[far][..., 1] + 0.4, 0)
        far = _rows(z, 2200)
        if far.start < len(z):
            ridge = self.read(tiles.ridges(), x[far], z[far], period=46000, place=4, viewers=viewers)
            height[far] += land.mountains * smooth(z[far], 2200, 8000) * (0.16 + 0.84 * ridge)
        return Ground(height=height, wide=wide, local=local)

    def wooded(self, ground: Ground) -> Floats:
        """Where forest wants to be: above 0."""
        return ground.wide[..., 1] + 0.35 * ground.local[..., 1] + np.float32((self.land.forest - 0.5) * 2.4)

    def cover(self, x: Floats, z: Floats, ground: Ground) -> tuple[slice, Floats, Floats, Floats]:
        """The rows where forest can be, and for them its share 0..1, that of conifers in it, and the canopy in m."""
        land, rows = self.land, _rows(z, 250)
        x, z, height, local = x[rows], z[rows], ground.height[rows], ground.local[rows]
        crowns = self.read(tiles.crowns(), x, z, period=420, place=6)
        wish = self.wooded(ground)[rows] - 4 * smooth(z, 400, 250)  # nearer, single trees make the forest
        forest = smooth(wish, 0.0, 0.08)  # an edge, not a fade: half a tree is fog
        forest *= smooth(height + 90 * local[..., 2], 700, 560)
        if land.feature == "lake":
            forest *= smooth(height, land.water_level + 0.4, land.water_level + 1.5)
        wish = ground.wide[rows][..., 2] + 0.3 * local[..., 3] + (land.conifers - 0.5) * 3.6 + height * (1 / 250)
        needles = smooth(wish, -0.25, 0.25)
        bump = crowns[..., 1] + needles * (crowns[..., 0] * 1.35 - crowns[..., 1])
        flat = smooth(z, 350, 1600)  # far away crowns are finer than the slices
        canopy = forest * (5 + 12 * (bump + flat * (0.45 - bump)))
        return rows, forest, needles, canopy

    def materials(self, x: Floats, z: Floats, ground: Ground, steep: Floats,
                  cover: tuple[slice, Floats, Floats, Floats]) -> Floats:  # fmt: skip
        """How much of each of MATERIALS is seen, float32 (materials, D, W), adding up to 1 everywhere.

        `steep` is the slope of the soil in metres per metre.
        """
        land, local, height = self.land, ground.local, ground.height
        weight = np.zeros((len(MATERIALS), *x.shape), np.float32)
        at = dict(zip(MATERIALS, weight, strict=True))
        at["dry meadow"][:] = smooth(
            0.55 * local[..., 2] + 0.4 * ground.wide[..., 3] + (land.dryness - 0.5) * 2, -0.7, 0.9
        )
        np.subtract(1, at["dry meadow"], out=at["meadow"])
        if land.feature != "forest":
            self._farm(weight, x, z, ground, steep)
        if land.feature == "road":
            rows = _rows(z, 20, 90)
            bend = np.sin(x[rows] * np.float32(1 / 80))
            middle = 46 + 9 * bend + 4 * local[rows][..., 3]
            _paint(weight, rows, "road", smooth(np.abs(z[rows] - middle), 4.2, 3.0))
        if land.feature == "lake":
            rows = _rows(z, NEAR, 2000)
            beach = smooth(height[rows], land.water_level + 0.75, land.water_level + 0.2)
            _paint(weight, rows, "shore", beach * smooth(z[rows], 2000, 900))
        rows = _rows(z, 600)
        bare = height[rows] + 80 * local[rows][..., 2]
        _paint(weight, rows, "alpine", smooth(bare, 420, 700))
        _paint(weight, rows, "scree", smooth(bare, 600, 1000))
        _paint(weight, rows, "rock", smooth(steep[rows] + 0.10 * local[rows][..., 0], 0.70, 1.30))
        rows, forest, needles, canopy = cover
        weight[:, rows] *= 1 - forest
        top = smooth(canopy, 8, 17) * np.float32(0.9)
        for name, share in (("conifer", forest * needles), ("broadleaf", forest * (1 - needles))):
            at[name][rows] += share * (1 - top)
            at[f"{name} top"][rows] += share * top
        return weight

    def _farm(self, weight: Floats, x: Floats, z: Floats, ground: Ground, steep: Floats) -> None:
        """Lay fields and hedges over the meadow, in the middle distance where it is flat and low."""
        rows = _rows(z, 90, 5000)
        patch = self.read(tiles.fields(), x[rows], z[rows] * np.float32(0.6), period=2600, place=8)
        farmed = (
            smooth(z[rows] + 25 * ground.local[rows][..., 1], 138, 142)
            * smooth(steep[rows], 0.55, 0.35)
            * smooth(ground.height[rows], 170, 110)
        )
        kind = patch[..., 0]
        weight[:2, rows] *= 1 - farmed * ((kind > 0.30) & (kind <= 0.86))
        for name, low, high in (("crop", 0.30, 0.48), ("wheat", 0.48, 0.72), ("soil", 0.72, 0.86)):
            np.multiply(farmed, (kind > low) & (kind <= high), out=weight[MATERIALS.index(name), rows])
        _paint(weight, rows, "broadleaf", farmed * patch[..., 1] * np.float32(0.9))


def _rows(z: Floats, low: float, high: float = math.inf) -> slice:
    """The rows that lie between two distances."""
    return slice(*np.searchsorted(z[:, 0], (low, high)).tolist())


def _paint(weight: Floats, rows: slice, name: str, share: Floats) -> None:
    """Cover `share` of what is there with one material."""
    weight[:, rows] *= 1 - share
    weight[MATERIALS.index(name), rows] += share
