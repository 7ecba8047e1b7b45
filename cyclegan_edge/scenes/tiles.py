"""Periodic noise that every landscape is cut from, made once per process.

Each tile is float32 and wraps around at its borders, so a position anywhere in an endless world has a value:

    fbm()      (512, 512, 4)  four independent fractal noises, mean 0, standard deviation 1, within -3..3
    ridges()   (512, 512)     mountain relief: sharp crests, smooth valleys, 0..1
    crowns()   (512, 512, 2)  a closed forest: height of cones, height of domes, 0..1
    clouds()   (512, 512)     thickness of a sheet of clouds, mean 0, standard deviation 1
    fields()   (512, 512, 2)  a patchwork of fields: a value per field, 0..1, and nearness to a hedge, 0..1
    blades()   (512, 512)     fine ground texture, mean 0, about -1..1
    grain()    (512, 512)     sensor noise, standard deviation 1

The seeds are fixed: two landscapes differ in where they look and in how they mix the tiles.
"""

from functools import cache
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
SIDE = 512  # texels, of every tile


def sample(tile: Floats, u: Floats, v: Floats) -> Floats:
    """Read `tile` at columns `u` and rows `v` (texels, float32, same 2-d shape, any size), bilinear, wrapping."""
    side, inverse = np.float32(SIDE), np.float32(1 / SIDE)
    inside_u, inside_v = u - np.floor(u * inverse) * side, v - np.floor(v * inverse) * side
    # OpenCV could wrap as well, but takes seven times as long for places outside the tile
    return cast(Floats, cv2.remap(tile, inside_u, inside_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


def _frequencies() -> Floats:
    rows = np.fft.fftfreq(SIDE, 1 / SIDE)[:, None]
    columns = np.fft.rfftfreq(SIDE, 1 / SIDE)[None, :]
    return np.asarray(np.hypot(rows, columns), np.float32)


def _spectral(rng: np.random.Generator, gain: Floats) -> Floats:
    """White noise shaped by `gain` per frequency; mean 0, standard deviation 1."""
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * gain, s=(SIDE, SIDE))
    noise -= noise.mean()
    return np.asarray(noise / noise.std(), np.float32)


def _fractal(rng: np.random.Generator, slope: float, *, lowest: float = 1, highest: float = SIDE) -> Floats:
    k = _frequencies()
    gain = np.where((k >= lowest) & (k <= highest), np.maximum(k, 1) ** -slope, 0)
    return _spectral(rng, gain.astype(np.float32))


@cache
def fbm() -> Floats:
    rng = np.random.default_rng(101)
    channels = [_fractal(rng, slope, lowest=2) for slope in (2.15, 2.15, 1.9, 1.8)]
    return np.clip(np.stack(channels, axis=-1), -3, 3)


@cache
def clouds() -> Floats:
    rng = np.random.default_rng(202)
    base = _fractal(rng, 1.75, lowest=3)
    billow = 1 - np.abs(_fractal(rng, 1.5, lowest=8))
    cloud = base + 0.45 * billow
    cloud -= cloud.mean()
    return np.asarray(cloud / cloud.std(), np.float32)


@cache
def ridges() -> Floats:
    rng = np.random.default_rng(303)
    k = _frequencies()
    relief = np.zeros((SIDE, SIDE), np.float32)
    weight = np.ones((SIDE, SIDE), np.float32)
    for octave in range(6):
        centre = 3.0 * 2**octave
        band = np.exp(-(np.log2(np.maximum(k, 0.5) / centre) ** 2) * 2).astype(np.float32)
        crest = np.clip(1 - np.abs(_spectral(rng, band)) * 0.6, 0, 1) ** 1.5
        relief += weight * crest * np.float32(0.27**octave)
        weight = np.clip(crest * 1.6, 0.1, 1)
    warp_u, warp_v = (_fractal(rng, 2.2, lowest=2) * 7 for _ in range(2))
    grid_v, grid_u = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    relief = sample(relief, grid_u + warp_u, grid_v + warp_v)
    low, high = np.percentile(relief, (2, 99.8))
    return np.asarray(np.clip((relief - low) / (high - low), 0, 1.1), np.float32)


def _nearest_site(rng: np.random.Generator, spacing: int, jitter: float) -> tuple[Floats, npt.NDArray[np.int64], int]:
    """Distance to the nearest of a jittered lattice of sites, the index of that site, and how many sites there are."""
    count = SIDE // spacing
    corner = np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij"), axis=-1).reshape(-1, 2) * spacing
    sites = (corner + rng.uniform(0, jitter * spacing, corner.shape)).astype(int) % SIDE
    pad = 2 * spacing
    free = np.ones((SIDE, SIDE), np.uint8)
    free[sites[:, 0], sites[:, 1]] = 0
    number = np.zeros((SIDE, SIDE), np.int64)
    number[sites[:, 0], sites[:, 1]] = np.arange(len(sites))
    wide_free, wide_number = np.pad(free, pad, mode="wrap"), np.pad(number, pad, mode="wrap")
    distance, label = cv2.distanceTransformWithLabels(
        wide_free, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(label.max()) + 1, np.int64)
    of_label[label[wide_free == 0]] = wide_number[wide_free == 0]
    inside = slice(pad, pad + SIDE)
    return distance[inside, inside].astype(np.float32), of_label[label[inside, inside]], len(sites)


@cache
def crowns() -> Floats:
    rng = np.random.default_rng(404)
    distance, tree, count = _nearest_site(rng, 8, 0.9)
    size = rng.uniform(0, 1, count).astype(np.float32)[tree]
    radius = 4.5 + 3.0 * size
    cone = np.clip(1 - distance / radius, 0, 1) * (0.65 + 0.35 * size)
    dome = np.sqrt(np.clip(1 - (distance / (radius + 1.5)) ** 2, 0, 1)) * (0.7 + 0.3 * size)
    return np.stack([cone, dome], axis=-1).astype(np.float32)


@cache
def fields() -> Floats:
    rng = np.random.default_rng(505)
    _, field, count = _nearest_site(rng, 64, 0.95)
    value = rng.uniform(0, 1, count).astype(np.float32)[field]
    edge = np.zeros((SIDE, SIDE), np.float32)
    for axis in (0, 1):
        edge += (field != np.roll(field, 1, axis)).astype(np.float32)
    near = np.pad(np.minimum(edge, 1), 16, mode="wrap")
    hedge = cv2.GaussianBlur(near, (0, 0), 1.6)[16:-16, 16:-16] * 4
    return np.stack([value, np.clip(hedge, 0, 1)], axis=-1).astype(np.float32)


@cache
def blades() -> Floats:
    rng = np.random.default_rng(606)
    texture = _fractal(rng, 0.75, lowest=6, highest=200) + 0.35 * _fractal(rng, 0.2, lowest=60)
    return np.clip(texture / 2.4, -1, 1).astype(np.float32)


@cache
def grain() -> Floats:
    noise = np.random.default_rng(707).standard_normal((SIDE, SIDE)).astype(np.float32)
    return cast(Floats, cv2.GaussianBlur(noise, (0, 0), 0.55, borderType=cv2.BORDER_REFLECT)) * 1.7
