"""The two seasons as colours. Nothing else differs between summer and winter but the leaves of a broadleaf tree.

Colours are linear RGB, 1 is paper white under full sun; `_srgb` takes the everyday 0..255 numbers.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cyclegan_edge.scenes.landscape import MATERIALS, Landscape, Season
from cyclegan_edge.scenes.tiles import Floats


def _srgb(red: float, green: float, blue: float) -> Floats:
    gamma = 2  # as in the final step of the camera
    return np.asarray((np.array([red, green, blue], np.float32) / 255) ** gamma, np.float32)


# material: summer colour, summer contrast of its texture, winter colour, winter contrast
_GROUND: dict[str, tuple[tuple[float, float, float], float, tuple[float, float, float], float]] = {
    "meadow": ((98, 136, 52), 0.60, (242, 245, 250), 0.10),
    "dry meadow": ((158, 156, 82), 0.55, (226, 225, 222), 0.16),
    "crop": ((66, 116, 50), 0.25, (221, 229, 233), 0.08),
    "wheat": ((206, 174, 96), 0.22, (236, 225, 208), 0.12),
    "soil": ((134, 110, 84), 0.35, (206, 196, 190), 0.2),
    "rock": ((132, 126, 120), 0.65, (134, 138, 150), 0.6),
    "scree": ((160, 154, 142), 0.5, (226, 231, 240), 0.25),
    "alpine": ((118, 128, 74), 0.45, (246, 248, 252), 0.12),
    "conifer": ((32, 56, 34), 0.5, (50, 64, 72), 0.5),
    "conifer top": ((66, 98, 50), 0.6, (150, 164, 178), 0.6),
    "broadleaf": ((60, 92, 34), 0.5, (116, 106, 106), 0.5),
    "broadleaf top": ((120, 156, 58), 0.5, (182, 170, 170), 0.5),
    "road": ((178, 162, 136), 0.25, (176, 172, 174), 0.2),
    "shore": ((158, 148, 122), 0.3, (202, 208, 216), 0.15),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """Light and colours of one landscape in one season; linear RGB, float32 (3,) unless said otherwise."""

    ground: Floats  # (materials, 4): colour and contrast of the texture
    sun: Floats
    sky: Floats  # light from the whole sky, on a surface that faces up
    zenith: Floats
    horizon: Floats
    cloud_lit: Floats
    cloud_shade: Floats
    water: Floats  # its own colour
    mirror: float  # how much of the reflection water shows when seen flat
    conifer: tuple[Floats, Floats]  # needles, bark or snow
    broadleaf: tuple[Floats, Floats]  # leaves or twigs, bark or frost
    exposure: float

    @property
    def haze(self) -> Floats:
        """What the air itself shines with: far away, everything has this colour."""
        return np.asarray(0.78 * self.horizon + 0.22 * self.zenith, np.float32)


@lru_cache(maxsize=8)
def palette(land: Landscape, season: Season) -> Palette:
    """The colours of `land` in `season`."""
    seen = [_GROUND[name][:2] if season == "summer" else _GROUND[name][2:] for name in MATERIALS]
    ground = np.array([[*_srgb(*colour), contrast] for colour, contrast in seen], np.float32)
    low = float(np.clip((np.radians(34) - land.sun_elevation) / np.radians(24), 0, 1))  # 1 when the sun is low
    if season == "summer":
        return Palette(
            ground=ground,
            sun=np.array([1.75, 1.62 - 0.18 * low, 1.38 - 0.42 * low], np.float32),
            sky=np.array([0.26, 0.34, 0.46], np.float32),
            zenith=_srgb(58 + 12 * low, 112 + 6 * low, 190 - 8 * low),
            horizon=_srgb(186 + 44 * low, 210 + 2 * low, 228 - 22 * low),
            cloud_lit=_srgb(255, 252 - 6 * low, 246 - 22 * low) * np.float32(1.08),
            cloud_shade=_srgb(158, 168, 186),
            water=_srgb(34, 72, 82),
            mirror=0.85,
            conifer=(_srgb(78, 112, 60), _srgb(120, 98, 84)),
            broadleaf=(_srgb(90, 118, 48), _srgb(112, 94, 80)),
            exposure=1 + 0.4 * low,
        )
    return Palette(
        ground=ground,
        sun=np.array([0.80, 0.77 - 0.04 * low, 0.73 - 0.08 * low], np.float32),
        sky=np.array([0.56, 0.63, 0.72], np.float32),
        zenith=_srgb(158, 182, 206),
        horizon=_srgb(222 + 8 * low, 228, 234 - 6 * low),
        cloud_lit=_srgb(244, 243 - low, 244 - 6 * low),
        cloud_shade=_srgb(186, 192, 204),
        water=_srgb(168, 192, 208),
        mirror=0.30,
        conifer=(_srgb(74, 92, 96), _srgb(244, 247, 252)),
        broadleaf=(_srgb(132, 118, 112), _srgb(226, 226, 232)),
        exposure=1 + 0.4 * low,
    )
