"""The files of a run's checkpoints: written whole or not at all, the last ones kept.

runs/scenes/checkpoints/step_0001000.pt    the last `output.keep`
runs/scenes/checkpoints/best.pt            of the evaluations, when there are any
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch
from torch import Tensor

from cyclegan_edge.errors import CheckpointError, TrainError, first_line
from cyclegan_edge.files import atomic_file

BEST = "best.pt"
T = TypeVar("T")

_FOLDER = "checkpoints"
_NAME = re.compile(r"step_(\d{7,})\.pt")


class OptimiserState(TypedDict):
    """What Adam.state_dict gives."""

    state: dict[str, dict[str, Tensor]]  # parameter's number -> "step", "exp_avg", "exp_avg_sq"
    param_groups: list[dict[str, Any]]


def write_content(run: Path, step: int, content: Mapping[str, Any], *, keep: int, best: bool = False) -> Path:
    """Write run/checkpoints/step_N.pt, then remove all but the last `keep` and what a killed process left.

    With `best` the same file is kept as best.pt too. Raises CheckpointError on a full disk."""
    path = run / _FOLDER / f"step_{step:07d}.pt"
    try:
        with atomic_file(path) as partial:
            torch.save(content, partial)
            if best:  # first: a run that is killed here reaches this step again
                with atomic_file(path.with_name(BEST)) as second:
                    shutil.copyfile(partial, second)
    except (OSError, RuntimeError) as error:  # torch reports a short write as RuntimeError
        kept = find_checkpoint(run)
        reason = first_line(error) if isinstance(error, OSError) else "the disk took a part of it, as when it is full"
        raise CheckpointError(
            f"The checkpoint {path} could not be written ({reason}); free some space and continue with "
            f"--resume{f' from {kept}' if kept else ''}."
        ) from error
    halves = path.parent.glob(".*.partial.pt")  # of a process that was killed while saving
    saved = checkpoints(run)
    until = saved.index(path) + 1
    with contextlib.suppress(OSError):
        for old in (*saved[: max(0, until - keep)], *halves):
            old.unlink()
        for undone in saved[until:]:  # it was damaged, so the run went on from before it
            undone.rename(undone.with_suffix(".undone"))
    return path


def checkpoints(run: Path) -> list[Path]:
    """Those of `run`, sorted by step, fewest first."""
    found = {int(match[1]): path for path in (run / _FOLDER).glob("step_*.pt") if (match := _NAME.fullmatch(path.name))}
    return [found[step] for step in sorted(found)]


def find_checkpoint(run: Path) -> Path | None:
    """The checkpoint of `run` with the most steps; None when it has none."""
    found = checkpoints(run)
    return found[-1] if found else None


def last_that_reads(run: Path, read: Callable[[Path], T]) -> tuple[tuple[Path, T] | None, tuple[str, ...]]:
    """The last checkpoint of `run` that `read` takes, with what it gives, or None; and for each later one why not.

    `read` raises CheckpointError. Those that go meanwhile, because another process trains there, do not count."""
    damaged: dict[Path, str] = {}
    while waiting := [path for path in checkpoints(run) if path not in damaged]:
        path = waiting[-1]
        try:
            return (path, read(path)), _of_those_there(damaged, run)
        except CheckpointError as error:
            damaged[path] = str(error)
    return None, _of_those_there(damaged, run)


def _of_those_there(reasons: Mapping[Path, str], run: Path) -> tuple[str, ...]:
    there = checkpoints(run)
    return tuple(reason for path, reason in reasons.items() if path in there)


def check_unused(run: Path, resume: Path | None) -> None:
    """Raise TrainError when `run` has checkpoints, and what is trained there starts afresh."""
    if resume is None and (found := find_checkpoint(run)):
        raise TrainError(f"{run} holds a run already; go on from {found}, or train in another folder.")


def load_optimiser(optimiser: torch.optim.Adam, saved: OptimiserState) -> None:
    """Restore the moments under this run's settings: a learning rate or a kernel may have been changed since.

    Raises ValueError for moments that do not fit the weights."""
    now = optimiser.state_dict()["param_groups"]
    groups = [{**new, "params": old["params"]} for new, old in zip(now, saved["param_groups"], strict=True)]
    optimiser.load_state_dict({"state": saved["state"], "param_groups": groups})
    for parameter, moments in optimiser.state.items():
        shapes = {name: moment.shape for name, moment in moments.items()}
        if shapes != {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}:
            raise ValueError(f"an optimiser has moments of the shapes {shapes} for weights of {tuple(parameter.shape)}")
