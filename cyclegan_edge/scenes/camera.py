"""A camera in a landscape: the ground is a height field cut into slices at fixed distances, nearest first.

A slice is a profile of the land at one distance. For each slice and column the land's outline gives a row; the first
slice that reaches a pixel is what the pixel shows (as in Comanche, 1992, but all columns at once).

    slices   (D, W) float32 per quantity, D = 216 distances from 11 m to 14 km
    pixels   (H, W) float32, drawn up to twice as large as asked for and averaged down
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from cyclegan_edge.contract import Picture, Size
from cyclegan_edge.errors import DataError
from cyclegan_edge.scenes import tiles, trees
from cyclegan_edge.scenes.grove import Tree, mix_bits, standing
from cyclegan_edge.scenes.landscape import FAR, NEAR, Ground, Landscape, Season, Survey, smooth
from cyclegan_edge.scenes.palette import Palette, palette
from cyclegan_edge.scenes.sky import paint_sky
from cyclegan_edge.scenes.tiles import Floats

SMALLEST, LARGEST = 32, 2048  # px, sides of a picture
SLICES = 216
FOCAL = 1.15  # picture heights: 47 degrees from top to bottom


def render(seed: int, season: Season, *, size: Size = (256, 256)) -> Picture:
    """World number `seed` in `season`: RGB, uint8 (height, width, 3). The same arguments give the same bytes.

    seed   any integer >= 0; every one is another world
    size   (height, width) in px, each 32..2048

    Raises DataError for a seed or size outside these bounds.
    """
    check_world(seed, size)
    return _camera(seed, size).picture(season)


def check_world(seed: int, size: Size) -> None:
    """Raise DataError for a seed or size outside the bounds of `render`."""
    if seed < 0:
        raise DataError(f"seed is {seed}, expected 0 or more; choose another number.")
    if not all(SMALLEST <= side <= LARGEST for side in size):
        raise DataError(
            f"size is {size[0]}x{size[1]} px (height x width), expected {SMALLEST} to {LARGEST} each; choose another."
        )


@lru_cache(maxsize=4)
def _camera(seed: int, size: Size) -> "Camera":
    return Camera(Landscape.from_seed(seed), size)


def _log_distance(depth: Floats) -> Floats:
    """log(Z / NEAR) at a slice number, also a fractional one: slices lie closer together where mountains are."""
    range_, bend = float(np.log(FAR / NEAR)), 0.6
    a, b = range_ * (1 + bend) / (SLICES - 1), -range_ * bend / (SLICES - 1) ** 2
    return np.asarray(depth * (np.float32(a) + np.float32(b) * depth), np.float32)


def _mixed(weight: Floats, colours: Floats) -> Floats:
    """Sum of weight (M, D, W) times colours (M, C), as C planes (C, D, W).

    Not a matrix product: BLAS starts threads for it, and on a busy machine they cost more than all the rest.
    """
    planes = np.zeros((colours.shape[1], *weight.shape[1:]), np.float32)
    for share, colour in zip(weight, colours, strict=True):
        for plane, value in zip(planes, colour, strict=True):
            cv2.scaleAdd(share, float(value), plane, plane)
    return planes


@lru_cache(maxsize=4)
def _vignette(size: tuple[int, int]) -> Floats:
    """Darker corners, (height, width, 3)."""
    height, width = size
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height - 0.5
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width - 0.5
    return np.repeat(np.asarray(1 - 0.35 * (x**2 + y**2), np.float32)[..., None], 3, axis=2)


@lru_cache(maxsize=4)
def _grain(size: tuple[int, int]) -> Floats:
    """Sensor noise in grey levels, (height + 256, width + 256, 3): every world takes its own part of it."""
    noise = np.tile(tiles.grain(), [side // tiles.SIDE + 2 for side in size])[: size[0] + 256, : size[1] + 256]
    return np.repeat(noise[..., None] * np.float32(1.1) + np.float32(0.5), 3, axis=2)


class Camera:
    """Takes the pictures of one landscape at one size; keeps what its seasons share."""

    def __init__(self, land: Landscape, size: Size) -> None:
        self.land, self.size = land, size
        scale = float(np.clip(400 / size[0], 1, 2))  # small pictures are drawn finer: thin branches need it
        self.height, self.width = round(size[0] * scale), round(size[1] * scale)
        self.focal = FOCAL * self.height
        self.eye_row = land.horizon * self.height
        self.survey = Survey(land)
        distances = NEAR * np.exp(_log_distance(np.arange(SLICES, dtype=np.float32)))
        self.z = distances.astype(np.float32)[:, None]  # (D, 1)
        columns = np.arange(self.width, dtype=np.float32) + 0.5
        self.slope_x = ((columns - self.width / 2) / self.focal)[None, :]  # (1, W) X / Z
        margin = self.width // 8  # columns towards the sun: what throws shadows into the picture
        self.left = margin if land.sun[0] < 0 else 0
        wide = (np.arange(self.width + margin, dtype=np.float32) + 0.5 - self.left - self.width / 2) / self.focal
        self.wide_x = self.z * wide  # (D, W + margin)
        self.slice_x = self.wide_x[:, self.left : self.left + self.width]
        self.clear = np.exp(-self.z / np.float32(land.haze))  # (D, 1) share of light that the air lets through
        self.rows = np.arange(self.height, dtype=np.float32)[:, None] + 0.5  # (H, 1)
        self.column_index = np.broadcast_to(np.arange(self.width, dtype=np.float32), (self.height, self.width)).copy()

    def picture(self, season: Season) -> Picture:
        """The view in `season`."""
        colours = palette(self.land, season)
        grove = standing(self.survey, self.width / 2 / self.focal)
        height, slices, surface = self._slices(colours, grove)
        first, depth = self._visible(surface)
        empty = first == SLICES
        log_z = _log_distance(depth)
        z = np.exp(log_z) * np.float32(NEAR)
        image = paint_sky(self.land, colours, (self.height, self.width), self.focal)
        sky = image.copy() if self.land.feature == "lake" else image
        skyline = int(np.flatnonzero(~empty.all(axis=1))[0])  # first row with any land
        detail = self._texture(log_z[skyline:], z[skyline:])
        z[empty] = 1e9
        land = self._land(slices, depth[skyline:], detail)
        np.copyto(image[skyline:], land, where=~empty[skyline:, :, None])
        covered = np.zeros(z.shape, np.float32)
        for tree in grove:
            self._draw_tree(image, covered, z, tree, season, colours)
        if self.land.feature == "lake":
            self._water(image, covered, sky, z, depth, height, detail, colours)
        return self._develop(image, colours)

    # --- the land, slice by slice -------------------------------------------------------------------------------

    def _slices(self, colours: Palette, grove: list[Tree]) -> tuple[Floats, tuple[Floats, Floats], Floats]:
        """Height of the soil (D, W), colour (D, W, 3) with texture contrast (D, W), row of the outline (D, W)."""
        survey, z, seen = self.survey, self.z, slice(self.left, self.left + self.width)
        wide = survey.ground(self.wide_x, z)
        rows, forest, needles, canopy = survey.cover(self.wide_x, z, wide)
        top = np.maximum(wide.height, np.float32(self.land.water_level))
        top[rows] += canopy
        light = self._light(top, wide.wide[..., 3])[:, seen] * self._tree_shadows(grove)
        x, top = self.slice_x, np.ascontiguousarray(top[:, seen])
        ground = Ground(height=wide.height[:, seen], wide=wide.wide[:, seen], local=wide.local[:, seen])
        slope_x, slope_z = self._gradient(ground.height)
        steep = np.sqrt(slope_x**2 + slope_z**2)
        weight = survey.materials(x, z, ground, steep, (rows, forest[:, seen], needles[:, seen], canopy[:, seen]))
        colour = _mixed(weight, colours.ground)
        for plane, sun, sky, air in zip(colour, colours.sun, colours.sky, colours.haze, strict=False):
            plane *= light * (sun + np.float32(0.28) * sky) + np.float32(0.72) * sky
            plane *= self.clear
            plane += (1 - self.clear) * air
        row = self.eye_row + self.focal * (self.land.eye - top) / z
        pixels = cv2.merge(list(colour[:3])), colour[3] * self.clear
        return np.ascontiguousarray(ground.height), pixels, row.astype(np.float32)

    def _gradient(self, height: Floats) -> tuple[Floats, Floats]:
        """Slopes of a (D, W) height field in metres per metre along X and Z."""
        along_x = np.empty_like(height)
        along_x[:, 1:-1] = height[:, 2:] - height[:, :-2]
        along_x[:, 0], along_x[:, -1] = along_x[:, 1], along_x[:, -2]
        along_x *= self.focal / (2 * self.z)
        along_z = np.empty_like(height)
        along_z[1:-1] = (height[2:] - height[:-2]) / (self.z[2:] - self.z[:-2])
        along_z[0], along_z[-1] = along_z[1], along_z[-2]
        return along_x, along_z

    def _light(self, top: Floats, cloud: Floats) -> Floats:
        """Share of sunlight 0..1.1 (D, W + margin): slope, shadows of clouds, and of what stands to the side."""
        sun_x, sun_y, sun_z = self.land.sun
        slope_x, slope_z = self._gradient(top)
        np.clip(slope_x, -1.1, 1.1, out=slope_x)
        np.clip(slope_z, -1.1, 1.1, out=slope_z)
        facing = (sun_y - slope_x * sun_x - slope_z * sun_z) / np.sqrt(1 + slope_x**2 + slope_z**2)
        light = np.maximum(facing, 0) + np.float32(0.06)
        fall = max(0.12, sun_y / max(abs(sun_x), 0.2))  # m a shadow falls per metre to the side
        start = int(np.searchsorted(self.z[:, 0], 60))  # nearer there are only single trees
        roof = top[start:]
        ramp = self.wide_x[start:] * np.float32(fall if sun_x < 0 else -fall)
        if sun_x < 0:
            edge = np.maximum.accumulate(roof + ramp, axis=1) - ramp
        else:
            edge = np.maximum.accumulate((roof + ramp)[:, ::-1], axis=1)[:, ::-1] - ramp
        light[start:] *= 1 - 0.75 * smooth(edge - roof, 0.5, 3.0) * smooth(self.z[start:], 60, 120)
        light *= 1 - 0.45 * smooth(cloud, 1.2 - 1.5 * self.land.cloud_cover, 1.9 - 1.5 * self.land.cloud_cover)
        return np.asarray(light, np.float32)

    # --- which slice a pixel shows ------------------------------------------------------------------------------

    def _visible(self, row: Floats) -> tuple[npt.NDArray[np.int32], Floats]:
        """Per pixel the first slice whose outline reaches it, and that as a fraction between it and the one before."""
        outline = np.minimum.accumulate(row, axis=0)
        start = np.clip(np.ceil(outline - 0.5), 0, self.height).astype(np.int32)
        flat = start * self.width + np.arange(self.width, dtype=np.int32)
        count = np.bincount(flat.ravel(), minlength=(self.height + 1) * self.width).reshape(-1, self.width)
        first = (SLICES - np.cumsum(count[:-1], axis=0)).astype(np.int32)
        at = np.minimum(first, SLICES - 1)
        index = at * self.width + np.arange(self.width, dtype=np.int32)
        here = np.take(row, index)
        before = np.take(row, np.maximum(index - self.width, index % self.width))
        part = np.clip((before - self.rows) / np.maximum(before - here, 1e-3), 0, 1)
        return first, np.maximum(at - 1 + part, 0).astype(np.float32)

    def _land(self, slices: tuple[Floats, Floats], depth: Floats, detail: Floats) -> Floats:
        """Colour of the land (H, W, 3) of the lower rows of the picture."""
        columns = self.column_index[: len(depth)]
        colour, contrast = (
            cv2.remap(part, columns, depth, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for part in slices
        )
        contrast = contrast * detail
        contrast += 1
        return np.asarray(cv2.multiply(colour, cv2.merge([contrast] * 3)), np.float32)

    def _texture(self, log_z: Floats, z: Floats) -> Floats:
        """Ground texture (H, W) of the lower rows, about -1..1, not much coarser near than far.

        Two neighbouring octaves of one texture, mixed by distance; the row is as good as a world coordinate.
        """
        octave = log_z * np.float32(0.75 / np.log(2))
        level = octave.astype(np.int32)
        mix = octave - level
        levels = np.arange(int(0.75 * np.log2(FAR / NEAR)) + 3)
        k = 110 * 2.0**-levels / NEAR**0.75
        shift = (levels * 37).astype(np.float32)
        x = z * self.slope_x
        x *= np.take(k.astype(np.float32), level)
        v = np.empty_like(z)
        v[:] = self.rows[-len(z) :] * np.float32(420 / self.height)
        v += level * np.float32(71)
        here = tiles.sample(tiles.blades(), x + np.take(shift, level), v)
        next_one = tiles.sample(tiles.blades(), x * np.float32(0.5) + np.take(shift, level + 1), v + np.float32(71))
        return np.asarray(here + mix * (next_one - here), np.float32)

    # --- single trees -------------------------------------------------------------------------------------------

    def _tree_shadows(self, grove: list[Tree]) -> Floats:
        """Share of light (D, W) that the single trees leave on the ground."""
        shade = np.full(self.slice_x.shape, 255, np.uint8)
        sun_x, sun_y, sun_z = self.land.sun
        distances = self.z[:, 0]
        for tree in grove:
            width = tree.height * (0.22 if tree.kind == "conifer" else 0.33)
            throw = min(tree.height * 0.5 / max(sun_y, 0.2), 14.0)
            x = (tree.x - sun_x * throw) / tree.z * self.focal + self.width / 2
            z = max(tree.z - sun_z * throw, NEAR)
            d = float(np.interp(z, distances, np.arange(SLICES)))
            per_metre = float(1 / (distances[min(int(d) + 1, SLICES - 1)] - distances[int(d)]))
            half_x = (width + abs(sun_x) * throw) / tree.z * self.focal
            half_d = (width * 0.6 + abs(sun_z) * throw) * per_metre
            cv2.ellipse(shade, (round(x * 16), round(d * 16)), (round(half_x * 16), round(half_d * 16) + 8),
                        0, 0, 360, 95, -1, cv2.LINE_AA, 4)  # fmt: skip
        return np.asarray(cv2.GaussianBlur(shade, (5, 3), 0), np.float32) * np.float32(1 / 255)

    def _draw_tree(self, image: Floats, covered: Floats, z: Floats, tree: Tree, season: Season,
                   colours: Palette) -> None:  # fmt: skip
        """Lay one tree over the picture, in front of everything farther away."""
        scale = self.focal / tree.z
        tall = tree.height * scale
        foot_x = tree.x * scale + self.width / 2
        foot_y = self.eye_row + scale * (self.land.eye - tree.foot) + 0.02 * tall
        levels = trees.coloured(self.land, season, tree.kind, tree.variant)
        level = next((lv for lv in reversed(levels) if lv.shape[0] >= tall), levels[0])
        k = tall / level.shape[0]
        half = level.shape[1] * k / 2
        left, right = max(int(foot_x - half) - 1, 0), min(int(foot_x + half) + 2, self.width)
        upper, lower = max(int(foot_y - tall) - 1, 0), min(int(foot_y) + 2, self.height)
        if left >= right or upper >= lower:
            return
        sign = -1 if tree.flip else 1
        matrix = np.array([[sign * k, 0, foot_x - sign * half - left - 0.5 + 0.5 * k * sign],
                           [0, k, foot_y - tall - upper - 0.5 + 0.5 * k]])  # fmt: skip
        stamp = cv2.warpAffine(level, matrix, (right - left, lower - upper), flags=cv2.INTER_LINEAR)
        clear = float(np.exp(-tree.z / self.land.haze))
        here = (z[upper:lower, left:right] > tree.z * 0.97).astype(np.float32)
        alpha = stamp[..., 3] * here
        ink = stamp[..., :3] * np.float32(tree.tint * clear) + alpha[..., None] * (1 - clear) * colours.haze
        part = image[upper:lower, left:right]
        part *= 1 - alpha[..., None]
        part += ink * here[..., None]
        cover = covered[upper:lower, left:right]
        cover += alpha * (1 - cover)

    # --- water --------------------------------------------------------------------------------------------------

    def _water(self, image: Floats, covered: Floats, sky: Floats, z: Floats, depth: Floats, height: Floats,
               detail: Floats, colours: Palette) -> None:  # fmt: skip
        """Turn what lies below the water level into a lake that mirrors the picture above it."""
        rows = np.flatnonzero((z < 2000).any(axis=1))
        top = int(rows[0])
        near = z[top:]
        bed = cv2.remap(height, self.column_index[top:], depth[top:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        wet = smooth(self.land.water_level - bed, 0.0, 0.12) * smooth(near, 2000, 1500)
        y = self.rows[top:]
        ripple = detail[-len(near) :] * (self.height / 90) * smooth(near, 500, 40)
        flat = 2 * np.float32(self.eye_row) - y + ripple
        guess = cv2.remap(z, self.column_index[top:], flat, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        rise = np.float32(2 * self.focal * (self.land.eye - self.land.water_level)) / guess
        mirror = cv2.remap(image, self.column_index[top:], flat + rise, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        behind = cv2.remap(z, self.column_index[top:], flat + rise, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        blank = cv2.remap(sky, self.column_index[top:], flat, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        np.copyto(mirror, blank, where=(behind < near)[..., None])
        mirror = cv2.blur(mirror, (1, max(1, self.height // 60)))
        down = np.clip((y - np.float32(self.eye_row)) / np.float32(self.focal), 0, 1)
        share = np.float32(colours.mirror) * (0.35 + 0.65 * np.exp(-down * 4))
        water = colours.water * (colours.sky + 0.5 * colours.sun) * (1 + 0.06 * ripple[..., None])
        water = water + share[..., None] * (mirror - water)
        amount = (wet * (1 - covered[top:]))[..., None]
        image[top:] += amount * (water - image[top:])

    # --- the picture --------------------------------------------------------------------------------------------

    def _develop(self, image: Floats, colours: Palette) -> Picture:
        """Light to a picture: average down, vignette, tone curve, grain, 8 bits."""
        height, width = self.size
        if image.shape[:2] != self.size:
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.float32)
        light = cv2.multiply(image, _vignette(self.size), scale=colours.exposure)
        tone = np.sqrt(light * (1 + 0.12 * light) / (1 + 0.22 * light))
        tone *= 255
        bits = int(mix_bits(self.land.seed, 0, np.zeros(1, np.int64))[0])
        top, left = bits & 255, bits >> 8 & 255
        tone += _grain(self.size)[top : top + height, left : left + width]
        return np.asarray(np.clip(tone, 0, 255, out=tone), np.uint8)
