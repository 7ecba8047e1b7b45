"""Trees close enough to be seen one by one: painted once per process, coloured per landscape and season.

A stencil is float32 (160, 112, 4), premultiplied by its coverage:

    leaf      brightness of needles or leaves; in winter of needles or twigs
    second    brightness of bark in summer, of snow and frost in winter
    sunside   the same brightness, weighted -1 (left) .. 1 (right), for light from one side
    coverage  0..1
"""

from functools import cache, lru_cache
from itertools import pairwise
from typing import Literal, cast

import cv2
import numpy as np

from cyclegan_edge.scenes.landscape import Landscape, Season
from cyclegan_edge.scenes.palette import palette
from cyclegan_edge.scenes.tiles import Floats

Stencil = tuple[Floats, Floats]  # summer, winter: same outline
HEIGHT, WIDTH = 160, 112  # texels; the foot of the trunk is in the middle of the bottom row
_SCALE = 2  # painted larger, then averaged down: soft edges
Kind = Literal["conifer", "broadleaf"]
VARIANTS = 3  # of each kind


def _canvas() -> Floats:
    return np.zeros((HEIGHT * _SCALE, WIDTH * _SCALE, 4), np.float32)


def _stroke(canvas: Floats, start: tuple[float, float], end: tuple[float, float], width: int, ink: list[float]) -> None:
    """One straight stroke in fractional texels; ink is (leaf, second), sun side follows from the place."""
    side = float(np.clip((end[0] / WIDTH - 0.5) * 2.6, -1, 1))
    points = [(round(x * _SCALE * 8), round(y * _SCALE * 8)) for x, y in (start, end)]
    colour = (ink[0], ink[1], (ink[0] + ink[1]) * side, 1.0)
    cv2.line(canvas, points[0], points[1], colour, width, cv2.LINE_8, 3)


def _finish(canvas: Floats) -> Floats:
    return cast(Floats, cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))


def _conifer(rng: np.random.Generator) -> Stencil:
    summer, winter = _canvas(), _canvas()
    middle, spread = WIDTH / 2, rng.uniform(25, 33)
    for canvas in (summer, winter):
        _stroke(canvas, (middle, HEIGHT - 1), (middle, 20), 5, [0.0, 0.25])
    tiers = 58
    for tier in range(tiers):
        below = 1 - tier / (tiers - 1)  # 1 at the lowest branch, 0 at the tip
        y = 3 + below * (HEIGHT - 24)
        for _ in range(9):
            reach = spread * (0.05 + 0.95 * below**0.85) * rng.uniform(0.45, 1.12) * rng.choice((-1, 1))
            facing = rng.uniform(0.0, 1.0)  # 1 points at the viewer
            x = middle + reach * np.sqrt(1 - 0.8 * facing)
            drop = abs(reach) * rng.uniform(0.18, 0.42) + 5 * facing * below
            brightness = float(rng.uniform(0.45, 0.8) * (0.72 + 0.35 * facing) * (1.15 - 0.35 * below))
            start, end = (middle + 0.1 * reach, y), (float(x), y + drop)
            width = int(rng.integers(3, 6))
            for canvas in (summer, winter):
                _stroke(canvas, start, end, width, [brightness, 0.0])
                _stroke(canvas, end, (end[0] + 0.06 * reach, end[1] + 3.0), 2, [brightness * 0.6, 0.0])
            if rng.uniform() < 0.8:
                lift = 1.3
                middle_x = start[0] + 0.35 * (end[0] - start[0])
                middle_y = start[1] + 0.35 * (end[1] - start[1])
                white = float(rng.uniform(0.75, 1.0) * (0.8 + 0.2 * facing))
                _stroke(winter, (middle_x, middle_y - lift), (end[0], end[1] - lift), 4, [0.0, white])
    return _finish(summer), _finish(winter)


def _limb(canvas: Floats, start: tuple[float, float], end: tuple[float, float], width: int, ink: list[float]) -> None:
    """A branch that leaves the trunk steeply and bends outwards: five strokes, thick to thin."""
    points = [
        (start[0] + (end[0] - start[0]) * t**1.5, start[1] + (end[1] - start[1]) * t) for t in np.linspace(0, 1, 6)
    ]
    for i, (near, far) in enumerate(pairwise(points)):
        _stroke(canvas, near, far, max(1, round(width * (1 - i / 6))), ink)


def _broadleaf(rng: np.random.Generator) -> Stencil:
    summer, winter = _canvas(), _canvas()
    middle, foot, fork = WIDTH / 2, HEIGHT - 1.0, HEIGHT * 0.68
    centre, radius = np.array([middle, HEIGHT * 0.42]), np.array([rng.uniform(33, 40), HEIGHT * 0.34])
    angle, away = rng.uniform(0, 2 * np.pi, 46), np.sqrt(rng.uniform(0.0, 1.0, 46))
    clumps = centre + np.stack([np.cos(angle), np.sin(angle)], -1) * away[:, None] * radius
    clumps = clumps[np.argsort(-clumps[:, 1] + rng.normal(0, 14, len(clumps)))]  # high clumps in front of low ones
    for canvas, ink in ((summer, [0.0, 0.4]), (winter, [0.5, 0.0])):
        _limb(canvas, (middle, foot), (middle, HEIGHT * 0.3), 11, ink)
    for x, y in clumps:
        start = (middle, float(min(fork, y + 0.5 * abs(x - middle) + 12)))
        for canvas, ink in ((summer, [0.0, 0.35]), (winter, [0.5, 0.0])):
            _limb(canvas, start, (float(x), float(y)), 5, ink)
    for x, y in clumps:
        size = float(rng.uniform(9, 13))
        lit = float(0.78 + 0.25 * np.clip((centre[1] - y) / radius[1], -1, 1) + rng.normal(0, 0.05))
        turn, out = rng.uniform(0, 2 * np.pi, 80), np.sqrt(rng.uniform(0, 1, 80))
        for dx, dy in np.stack([np.cos(turn), np.sin(turn)], -1) * out[:, None] * size:
            leaf = max(0.14, (lit - 0.40 * dy / size) * float(rng.uniform(0.75, 1.2)))
            _stroke(summer, (x + dx, y + dy), (x + dx + 1.2, y + dy + 0.6), int(rng.integers(3, 6)), [leaf, 0.0])
        for dx, dy in np.stack([np.cos(turn), np.sin(turn)], -1)[:38] * size * 1.05:
            root = (float(x + rng.normal(0, 0.3) * size), float(y + rng.normal(0.2, 0.3) * size))
            bend = (float(0.5 * root[0] + 0.5 * (x + dx) + rng.normal(0, 1)), float(0.5 * root[1] + 0.5 * (y + dy) - 1))
            frost = float(rng.uniform(0.2, 0.95)) * (0.75 + 0.25 * lit)
            _stroke(winter, root, bend, 2, [0.45, 0.1])
            _stroke(winter, bend, (x + dx, y + dy - 1), 1, [0.4 * (1 - frost), frost])
    return _finish(summer), _finish(winter)


@cache
def stencils(kind: Kind) -> tuple[Stencil, ...]:
    """All variants of one kind."""
    paint = {"conifer": _conifer, "broadleaf": _broadleaf}[kind]
    return tuple(paint(np.random.default_rng((808, variant))) for variant in range(VARIANTS))


@lru_cache(maxsize=24)
def coloured(land: Landscape, season: Season, kind: Kind, variant: int) -> list[Floats]:
    """A tree in the light of `land`: premultiplied linear RGB and coverage (h, w, 4), halved again and again."""
    colours = palette(land, season)
    leaf, second = colours.conifer if kind == "conifer" else colours.broadleaf
    even = colours.sky + 0.6 * colours.sun
    matrix = np.zeros((4, 4), np.float32)
    matrix[0, :3], matrix[1, :3] = leaf * even, second * even
    matrix[2, :3] = 0.5 * (leaf + second) * 0.55 * colours.sun * land.sun[0]  # from the left or from the right
    matrix[3, 3] = 1
    stencil = stencils(kind)[variant][0 if season == "summer" else 1]
    levels = [np.asarray(np.maximum(cv2.transform(stencil, matrix.T), 0), np.float32)]
    while levels[-1].shape[0] > 10:  # texels
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.float32))
    return levels
