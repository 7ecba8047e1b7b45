"""Where single trees stand: a lattice of places, finer where it is nearer, each with its own dice.

Beyond TREE_FAR a forest is part of the ground's outline; from there to FOREST_NEAR single trees make it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cyclegan_edge.scenes import trees
from cyclegan_edge.scenes.landscape import Survey

ROWS = 48  # distances at which single trees stand
OUTSIDE = 36.0  # m beyond the border of the picture: from there a shadow can reach into it
TREE_NEAR, FOREST_NEAR, TREE_FAR = 26.0, 130.0, 400.0  # m


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree in view."""

    x: float  # m to the right of the viewer
    z: float  # m away
    foot: float  # m, height of the ground it stands on
    height: float  # m
    kind: trees.Kind
    variant: int  # which stencil
    tint: float  # brightness, 0.8 to 1.2
    flip: bool  # mirrored


def mix_bits(seed: int, row: npt.NDArray[np.int64] | int, number: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """32 well-mixed bits per number (murmur3 finalizer, three rounds)."""
    low = np.uint64(0xFFFFFFFF)
    state = np.full(number.shape, 0x9E3779B9, np.uint64)
    for part in (np.asarray(seed & 0xFFFFFFFF), np.asarray(row), number):
        state = ((state ^ (part.astype(np.uint64) & low)) * np.uint64(0x85EBCA6B)) & low
        state = ((state ^ (state >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & low
        state ^= state >> np.uint64(16)
    return state


def standing(survey: Survey, half: float) -> list[Tree]:
    """The single trees that can be seen, farthest first; `half` is half the picture's X / Z."""
    land = survey.land
    distance = TREE_NEAR * (TREE_FAR / TREE_NEAR) ** (np.arange(ROWS) / (ROWS - 1))
    cell = 0.09 * distance + 3
    first = np.floor((-half * distance - OUTSIDE) / cell).astype(np.int64)
    count = np.ceil((half * distance + OUTSIDE) / cell).astype(np.int64) - first
    row = np.repeat(np.arange(ROWS), count)
    number = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    bits = mix_bits(land.seed, row, number)

    def dice(shift: int, width: int) -> npt.NDArray[np.float64]:  # 0 <= value < 1
        share = (bits >> np.uint64(shift)) & np.uint64(2**width - 1)
        return np.asarray(share / 2**width, np.float64)

    chance = dice(0, 8)
    lonely = chance < 0.32 * land.trees  # may stand in the meadow; the others only where forest is
    x = (number + dice(8, 8)) * cell[row]
    z = distance[row] * (1 + 0.036 * dice(24, 2))
    candidate = np.flatnonzero(lonely | ((z > FOREST_NEAR) & (chance < 0.92)))
    candidate = candidate[np.argsort(z[candidate], kind="stable")]
    if not len(candidate):
        return []
    far = z[candidate].astype(np.float32)[:, None]
    ground = survey.ground(np.zeros_like(far), far, x[candidate, None])  # as if standing right before each tree
    foot = ground.height[:, 0]
    keep = lonely[candidate] & (ground.local[:, 0, 1] > 0.9 - 1.3 * land.trees)
    keep |= (survey.wooded(ground)[:, 0] > 0) & (far[:, 0] > FOREST_NEAR)
    keep &= foot > land.water_level + 0.4
    if land.feature == "road":
        keep &= np.abs(far[:, 0] - 48) > 22
    conifer = dice(20, 4) < land.conifers
    height = np.where(conifer, 7 + 10 * dice(16, 4), 6 + 6 * dice(16, 4))
    variant = (dice(24, 8) * 256).astype(np.int64) % trees.VARIANTS
    tint, flip = 0.8 + 0.4 * dice(27, 3), dice(31, 1) > 0
    return [
        Tree(
            x=float(x[i]),
            z=float(z[i]),
            foot=float(foot[at]),
            height=float(height[i]),
            kind="conifer" if conifer[i] else "broadleaf",
            variant=int(variant[i]),
            tint=float(tint[i]),
            flip=bool(flip[i]),
        )
        for at, i in reversed([(at, int(candidate[at])) for at in np.flatnonzero(keep)])
    ]
