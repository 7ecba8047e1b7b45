"""The sky: a gradient, the glow of the sun, and one sheet of clouds that is seen in perspective."""

import cv2
import numpy as np

from cyclegan_edge.contract import Size
from cyclegan_edge.scenes import tiles
from cyclegan_edge.scenes.landscape import Landscape, smooth
from cyclegan_edge.scenes.palette import Palette
from cyclegan_edge.scenes.tiles import Floats


def paint_sky(land: Landscape, colours: Palette, size: Size, focal: float) -> Floats:
    """The whole sky as linear RGB, float32 (height, width, 3), also where land will hide it: water mirrors it.

    `size` is (height, width) and `focal` the focal length, all in px. Below eye level there is plain haze.
    """
    eye_row = land.horizon * size[0]
    above = min(size[0], int(eye_row) + 4)  # rows from which sky can be seen
    height, width = (above + 1) // 2, (size[1] + 1) // 2  # clouds are soft: half as fine
    up = (eye_row - (np.arange(height, dtype=np.float32)[:, None] * 2 + 1)) / np.float32(focal)
    up = np.maximum(up, 0.0)
    side = (np.arange(width, dtype=np.float32)[None, :] * 2 + 1 - size[1] / 2) / np.float32(focal)
    blue = 1 - np.exp(-up * np.float32(4.2))
    sky = colours.horizon + blue[..., None] * (colours.zenith - colours.horizon)
    sky = np.broadcast_to(sky, (height, width, 3)).copy()
    sun_x, sun_y, sun_z = land.sun
    glow = np.zeros((height, width), np.float32)
    if sun_z > 0:
        cosine = (side * sun_x + up * sun_y + sun_z) / np.sqrt(1 + side**2 + up**2)
        angle = np.sqrt(np.maximum(2 - 2 * cosine, 0))
        glow = 0.30 * np.exp(-angle * 3) + 0.8 * np.exp(-angle * 16) + 2.0 * smooth(angle, 0.03, 0.012)
        sky += glow[..., None] * colours.sun * np.float32(0.6)
    far = 1 / (up + np.float32(0.10))
    k = np.float32(34)
    u = np.asarray(side * far * k + np.float32(land.offsets[10]), np.float32)
    v = np.empty_like(u)
    v[:] = far * k * np.float32(1.25) + np.float32(land.offsets[11])
    thick = tiles.sample(tiles.clouds(), u, v) + 0.35 * tiles.sample(tiles.clouds(), u * 3, v * 3)  # whole: u wraps
    toward = tiles.sample(tiles.clouds(), u + np.float32(7 * np.sign(sun_x)), v + np.float32(9))
    limit = 1.15 - 2.3 * land.cloud_cover
    cover = smooth(thick, limit, limit + 1.5) * smooth(up, 0.0, 0.10)
    dark = np.clip(0.38 * (0.8 * thick + 0.5 * toward - limit - 0.5), 0, 1)
    cloud = colours.cloud_lit + dark[..., None] * (colours.cloud_shade - colours.cloud_lit)
    sky += (cover * np.float32(0.94))[..., None] * (cloud + 0.5 * glow[..., None] * colours.sun - sky)
    picture = np.empty((size[0], size[1], 3), np.float32)
    picture[:above] = cv2.resize(sky, (width * 2, height * 2), interpolation=cv2.INTER_LINEAR)[:above, : size[1]]
    picture[above:] = colours.horizon
    return picture
