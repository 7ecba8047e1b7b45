"""A camera in a landscape: the ground is a height field cut into slices at fixed distances, nearest first.

A slice is a profile of the land at one distance; it slides sideways with the viewer, the far ones slowly. Everything is
a function of the place in the world, so nothing flickers and nothing pops up. For each slice and column the land's
outline gives a row; the first slice that reaches a pixel is what the pixel shows (as in Comanche, 1992, but all columns
at once).

    slices   (D, W) float32 per quantity, D = 288 distances from 10 m to 15 km
    pixels   (H, W) float32, drawn up to twice as large as asked for and averaged down
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cyclegan_edge.scenes import tiles, trees
from cyclegan_edge.scenes.landscape import FAR, NEAR, Floats, Landscape, Season, Survey, smooth
from cyclegan_edge.scenes.palette import Palette, palette

SLICES = 288
FOCAL = 1.15  # picture heights: 47 degrees from top to bottom
TREE_ROWS = 44  # distances at which single trees stand
TREE_NEAR, TREE_FAR = 26.0, 330.0  # m


@dataclass(frozen=True, slots=True)
class _Tree:
    x: float  # px, foot
    z: float  # m
    height: float  # m
    conifer: bool
    variant: int
    tint: float
    flip: bool


def _hash(*numbers: int) -> int:
    """32 well-mixed bits (murmur3 finalizer over a running sum)."""
    state = 0x9E3779B9
    for number in numbers:
        state = (state ^ (number & 0xFFFFFFFF)) * 0x85EBCA6B & 0xFFFFFFFF
        state = (state ^ state >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
        state ^= state >> 16
    return state


class Camera:
    """Takes pictures of one landscape at one size; keeps what does not change between them."""

    def __init__(self, land: Landscape, size: tuple[int, int] = (256, 256)) -> None:
        self.land, self.size = land, size
        scale = float(np.clip(440 / size[0], 1, 2))  # small pictures are drawn finer: thin branches need it
        self.height, self.width = round(size[0] * scale), round(size[1] * scale)
        self.focal = FOCAL * self.height
        self.eye_row = land.horizon * self.height
        self.survey = Survey(land)
        ratio = (FAR / NEAR) ** (1 / (SLICES - 1))
        self.log_ratio = float(np.log(ratio))
        self.z = (NEAR * ratio ** np.arange(SLICES)).astype(np.float32)[:, None]  # (D, 1)
        columns = np.arange(self.width, dtype=np.float32) + 0.5
        self.slope_x = ((columns - self.width / 2) / self.focal)[None, :]  # (1, W) X / Z
        self.slice_x = self.z * self.slope_x  # (D, W)
        self.slice_z = np.broadcast_to(self.z, self.slice_x.shape).copy()
        self.rows = np.arange(self.height, dtype=np.float32)[:, None] + 0.5  # (H, 1)
        self.column_index = np.broadcast_to(np.arange(self.width, dtype=np.float32), (self.height, self.width)).copy()
        self.step = NEAR / FOCAL * 1.6  # m that one picture height of pan moves the viewer
        self._palettes: dict[Season, Palette] = {}
        self._stencils: dict[tuple[Season, bool, int], list[Floats]] = {}
        self._vignette = self._make_vignette()

    def frame(self, pan: float = 0.0, season: Season = "summer") -> npt.NDArray[np.uint8]:
        """The view after walking `pan` picture heights to the right, RGB uint8 (height, width, 3)."""
        if season not in self._palettes:
            self._palettes[season] = palette(self.land, season)
        colours = self._palettes[season]
        view = pan * self.step
        forest_trees = self._trees(view)
        height, slices, surface = self._slices(view, colours, forest_trees)
        first, depth = self._visible(surface)
        z = np.exp(depth * np.float32(self.log_ratio)) * np.float32(NEAR)
        z[first == SLICES] = 1e9
        image = self._land(slices, depth, z, view)
        sky = self._sky(colours, pan)
        np.copyto(image, sky, where=(first == SLICES)[..., None])
        covered = np.zeros(z.shape, np.float32)
        for tree in forest_trees:
            self._draw_tree(image, covered, z, tree, view, season, colours)
        if self.land.feature == "lake":
            image = self._water(image, covered, sky, z, depth, height, view, colours)
        return self._develop(image, pan, colours)

    # --- the land, slice by slice -------------------------------------------------------------------------------

    def _slices(self, view: float, colours: Palette, forest_trees: list[_Tree]) -> tuple[Floats, Floats, Floats]:
        """Height of the soil (D, W), colour and texture contrast (D, W, 4), and the row of the outline (D, W)."""
        survey, x, z = self.survey, self.slice_x, self.slice_z
        ground = survey.ground(x, z, view)
        forest, needles, canopy = survey.cover(x, z, view, ground)
        soil_x, soil_z = self._gradient(ground.height)
        steep = np.sqrt(soil_x**2 + soil_z**2)
        weight = survey.materials(x, z, view, ground, forest, needles, canopy, steep)
        colour = (weight.reshape(len(weight), -1).T @ colours.ground).reshape(*x.shape, 4)
        top = np.maximum(ground.height, self.land.water_level) + canopy
        light = self._light(top, ground.height, canopy, ground.wide, forest_trees)
        colour[..., :3] *= light[..., None] * colours.sun + colours.sky * (0.72 + 0.28 * light[..., None])
        clear = np.exp(-z / np.float32(self.land.haze))[..., None]
        colour *= clear
        colour[..., :3] += (1 - clear) * self._haze(colours)
        row = self.eye_row + self.focal * (self.land.eye - top) / z
        return ground.height, colour, row

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

    def _light(self, top: Floats, soil: Floats, canopy: Floats, wide: Floats, forest_trees: list[_Tree]) -> Floats:
        """Share of sunlight 0..1.3 on each slice: slope, shadows of clouds, and of things to the side."""
        sun_x, sun_y, sun_z = self.land.sun
        slope_x, slope_z = self._gradient(top)
        slope_x, slope_z = np.clip(slope_x, -1.1, 1.1), np.clip(slope_z, -1.1, 1.1)
        facing = (sun_y - slope_x * sun_x - slope_z * sun_z) / np.sqrt(1 + slope_x**2 + slope_z**2)
        light = np.maximum(facing, 0) + np.float32(0.06)
        fall = max(0.12, sun_y / max(abs(sun_x), 0.2))  # m a shadow falls per metre to the side
        ramp = self.slice_x * np.float32(fall)
        if sun_x > 0:
            edge = np.maximum.accumulate((top - ramp * -1)[:, ::-1], axis=1)[:, ::-1] - ramp
        else:
            edge = np.maximum.accumulate(top + ramp, axis=1) - ramp
        light *= 1 - 0.75 * smooth(edge - top, 0.5, 3.0) * smooth(self.z, 60, 120)
        light *= 1 - 0.45 * smooth(wide[..., 3] + (self.land.cloud_cover - 0.6) * 1.5, 0.3, 1.0)
        return light * self._tree_shadows(forest_trees)

    def _haze(self, colours: Palette) -> Floats:
        return np.float32(0.55) * colours.horizon + np.float32(0.45) * (0.5 * colours.horizon + 0.5 * colours.zenith)

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

    def _land(self, slices: Floats, depth: Floats, z: Floats, view: float) -> Floats:
        """Colour of the land per pixel (H, W, 3), with a texture that is equally fine at every distance."""
        colour = cv2.remap(slices, self.column_index, depth, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        detail = self._texture(z, view)
        return np.asarray(colour[..., :3] * (1 + colour[..., 3:] * detail[..., None]), np.float32)

    def _texture(self, z: Floats, view: float) -> Floats:
        """Ground texture (H, W), about -1..1: two neighbouring octaves, mixed so that the grain on screen stays even."""
        near = np.minimum(z, FAR)
        octave = np.log2(near) * np.float32(0.75)  # below 1: far texture is finer on screen, but less than it would be
        whole = np.floor(octave)
        mix = octave - whole
        # Walking sideways leaves every place of the world in its row, so the row is as good as a world coordinate.
        v = np.broadcast_to(self.rows * np.float32(420 / self.height), near.shape)
        total = np.zeros_like(near)
        for shift, share in ((0.0, 1 - mix), (1.0, mix)):
            k = np.exp2(-(whole + np.float32(shift))) * np.float32(110)
            level = whole + shift
            walk = np.remainder(view * 110 * np.exp2(-level.astype(np.float64)), tiles.SIDE).astype(np.float32)
            u = near * self.slope_x * k + walk + level * 37
            total += share * tiles.sample(tiles.blades(), u, v + level * 71)
        return total

    # --- the sky ------------------------------------------------------------------------------------------------

    def _sky(self, colours: Palette, pan: float) -> Floats:
        """The whole sky (H, W, 3), also where land will hide it: water mirrors it."""
        height, width = (self.height + 1) // 2, (self.width + 1) // 2  # clouds are soft: half as fine
        up = (self.eye_row - (np.arange(height, dtype=np.float32)[:, None] * 2 + 1)) / np.float32(self.focal)
        up = np.maximum(up, 0.0)
        side = (np.arange(width, dtype=np.float32)[None, :] * 2 + 1 - self.width / 2) / np.float32(self.focal)
        blue = 1 - np.exp(-up * np.float32(4.2))
        sky = colours.horizon + blue[..., None] * (colours.zenith - colours.horizon)
        sky = np.broadcast_to(sky, (height, width, 3)).copy()
        sun_x, sun_y, sun_z = self.land.sun
        glow = np.zeros((height, width), np.float32)
        if sun_z > 0:
            cosine = (side * sun_x + up * sun_y + sun_z) / np.sqrt(1 + side**2 + up**2)
            angle = np.sqrt(np.maximum(2 - 2 * cosine, 0))
            glow = 0.45 * np.exp(-angle * 5) + 2.5 * smooth(angle, 0.032, 0.022)
            sky += glow[..., None] * colours.sun * np.float32(0.6)
        far = 1 / (up + np.float32(0.10))
        k = np.float32(34)
        drift = (pan * 1.1 + self.land.offsets[10]) % tiles.SIDE
        u, v = side * far * k + np.float32(drift), np.broadcast_to(far * k * np.float32(1.25), (height, width)).copy()
        v += np.float32(self.land.offsets[11])
        u = np.ascontiguousarray(u, np.float32)
        thick = tiles.sample(tiles.clouds(), u, v) + 0.35 * tiles.sample(tiles.clouds(), u * 3.1, v * 3.1)
        toward = tiles.sample(tiles.clouds(), u + np.float32(7 * np.sign(sun_x)), v + np.float32(9))
        limit = 1.15 - 2.3 * self.land.cloud_cover
        cover = smooth(thick, limit, limit + 1.5) * smooth(up, 0.0, 0.10)
        dark = np.clip(0.38 * (0.8 * thick + 0.5 * toward - limit - 0.5), 0, 1)
        cloud = colours.cloud_lit + dark[..., None] * (colours.cloud_shade - colours.cloud_lit)
        sky += (cover * np.float32(0.94))[..., None] * (cloud + 0.5 * glow[..., None] * colours.sun - sky)
        return np.asarray(cv2.resize(sky, (self.width, self.height), interpolation=cv2.INTER_LINEAR), np.float32)

    # --- single trees -------------------------------------------------------------------------------------------

    def _trees(self, view: float) -> list[_Tree]:
        """The single trees in view, farthest first. Each belongs to a cell of an endless lattice."""
        land, out = self.land, []
        for row in range(TREE_ROWS):
            z = TREE_FAR * (TREE_NEAR / TREE_FAR) ** (row / (TREE_ROWS - 1))
            cell = 0.16 * z + 4
            reach = (self.width / 2 / self.focal) * z + 12
            for number in range(int(np.floor((view - reach) / cell)), int(np.ceil((view + reach) / cell))):
                bits = _hash(land.seed, row, number)
                if (bits & 0xFF) / 256 > land.trees * 0.55:
                    continue
                x = (number + (bits >> 8 & 0xFF) / 256) * cell - view
                size = (bits >> 16 & 0xF) / 15
                conifer = (bits >> 20 & 0xF) / 16 < land.conifers
                tall = (7 + 10 * size) if conifer else (6 + 6 * size)
                flags = bits >> 24
                out.append(_Tree(x, z * (1 + 0.03 * (flags & 3)), tall, conifer, flags % trees.VARIANTS,
                                 0.8 + 0.4 * ((flags >> 3 & 7) / 7), bool(flags >> 7)))  # fmt: skip
        if not out:
            return []
        x, z = (np.array([[getattr(tree, name) for tree in out]], np.float32) for name in ("x", "z"))
        ground = self.survey.ground(x, z, view)
        keep = (ground.local[0, :, 1] > 0.9 - 1.3 * land.trees) & (ground.height[0] > land.water_level + 0.4)
        if land.feature == "road":
            keep &= np.abs(z[0] - 48) > 22
        self._feet = {id(tree): float(h) for tree, h in zip(out, ground.height[0], strict=True)}
        return sorted((tree for tree, kept in zip(out, keep, strict=True) if kept), key=lambda tree: -tree.z)

    def _tree_shadows(self, forest_trees: list[_Tree]) -> Floats:
        """Share of light (D, W) that the single trees leave on the ground."""
        shade = np.full(self.slice_x.shape, 255, np.uint8)
        sun_x, sun_y, sun_z = self.land.sun
        for tree in forest_trees:
            width = tree.height * (0.22 if tree.conifer else 0.33)
            throw = min(tree.height * 0.5 / max(sun_y, 0.2), 14.0)
            x = (tree.x - sun_x * throw) / tree.z * self.focal + self.width / 2
            z = max(tree.z - sun_z * throw, NEAR)
            d = np.log(z / NEAR) / self.log_ratio
            half_x = (width + abs(sun_x) * throw) / tree.z * self.focal
            half_d = (width * 0.6 + abs(sun_z) * throw) / tree.z / self.log_ratio
            cv2.ellipse(shade, (round(x * 16), round(float(d) * 16)), (round(half_x * 16), round(float(half_d) * 16) + 8),
                        0, 0, 360, 95, -1, cv2.LINE_AA, 4)  # fmt: skip
        return np.asarray(cv2.GaussianBlur(shade, (5, 3), 0), np.float32) * np.float32(1 / 255)

    def _draw_tree(self, image: Floats, covered: Floats, z: Floats, tree: _Tree, view: float, season: Season,
                   colours: Palette) -> None:  # fmt: skip
        """Lay one tree over the picture, in front of everything farther away."""
        scale = self.focal / tree.z
        tall = tree.height * scale
        foot_x = tree.x * scale + self.width / 2
        foot_y = self.eye_row + scale * (self.land.eye - self._feet[id(tree)]) + 0.02 * tall
        levels = self._levels(season, tree, colours)
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
        ink = stamp[..., :3] * np.float32(tree.tint * clear) + alpha[..., None] * (1 - clear) * self._haze(colours)
        part = image[upper:lower, left:right]
        part *= 1 - alpha[..., None]
        part += ink * here[..., None]
        cover = covered[upper:lower, left:right]
        cover += alpha * (1 - cover)

    def _levels(self, season: Season, tree: _Tree, colours: Palette) -> list[Floats]:
        key = (season, tree.conifer, tree.variant)
        if key not in self._stencils:
            stencil = trees.stencils("conifer" if tree.conifer else "broadleaf")[tree.variant]
            leaf, second = colours.conifer if tree.conifer else colours.broadleaf
            side = self.land.sun[0]
            self._stencils[key] = trees.coloured(stencil[0 if season == "summer" else 1], leaf, second, colours.sun,
                                                 colours.sky, side)  # fmt: skip
        return self._stencils[key]

    # --- water --------------------------------------------------------------------------------------------------

    def _water(self, image: Floats, covered: Floats, sky: Floats, z: Floats, depth: Floats, height: Floats,
               view: float, colours: Palette) -> Floats:  # fmt: skip
        """Turn what lies below the water level into a lake that mirrors the picture above it."""
        rows = np.flatnonzero((z < 2000).any(axis=1))
        top = int(rows[0])
        near = z[top:]
        bed = cv2.remap(height, self.column_index[top:], depth[top:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        wet = smooth(self.land.water_level - bed, 0.0, 0.12) * smooth(near, 2000, 1500)
        y = self.rows[top:]
        ripple = self._texture(z, view)[top:] * (self.height / 90) * smooth(near, 500, 40)
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
        return image

    # --- the picture --------------------------------------------------------------------------------------------

    def _make_vignette(self) -> Floats:
        height, width = self.size
        y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height - 0.5
        x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width - 0.5
        return (1 - 0.35 * (x**2 + y**2))[..., None].astype(np.float32)

    def _develop(self, image: Floats, pan: float, colours: Palette) -> npt.NDArray[np.uint8]:
        """Light to a picture: average down, vignette, tone curve, grain, 8 bits."""
        height, width = self.size
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) if image.shape[:2] != self.size else image
        light = np.maximum(small * (self._vignette * np.float32(colours.exposure)), 0)
        tone = np.sqrt(light * (1 + 0.12 * light) / (1 + 0.22 * light))
        bits = _hash(self.land.seed, int(pan * 4096) & 0x7FFFFFFF)
        noise = np.roll(tiles.grain(), (bits & 511, bits >> 9 & 511), (0, 1))
        repeats = (-(-height // tiles.SIDE), -(-width // tiles.SIDE))
        noise = np.tile(noise, repeats)[:height, :width, None]
        return np.clip(tone * 255 + noise * np.float32(1.6) + 0.5, 0, 255).astype(np.uint8)
