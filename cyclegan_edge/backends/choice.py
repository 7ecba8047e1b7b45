"""Which engine `auto` takes on a CPU: the fastest, as it was measured here.

    choose -> from the user's cache, else `measure_here`: a second of turns, remembered by model, CPU and versions
           -> where measuring is off, what was recorded of CPUs of this class (`measured.recorded`)

What computes less exactly than half precision is taken only when its pictures are within the bound of its precision, on
the pictures in the bundle.

CYCLEGAN_EDGE_MEASURE=0 switches measuring off. A cache that cannot be read or written is as if it were not there.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from cyclegan_edge.backends.base import Backend
from cyclegan_edge.backends.candidates import Candidate, artifact_of, is_exact, version_of
from cyclegan_edge.backends.measured import Measured, architecture_of, recorded
from cyclegan_edge.bounds import BOUNDS, Pair, measure, out_of_bounds, reference_pairs
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import Batch
from cyclegan_edge.errors import BundleError, ConfigError, EngineError, ExportError, ImageError, SinkError
from cyclegan_edge.files import user_cache, write_file
from cyclegan_edge.machine import cpu_class, cpu_flags, cpu_name
from cyclegan_edge.preprocess import resize
from cyclegan_edge.scenes import render
from cyclegan_edge.schema import from_mapping, to_mapping

Open = Callable[[Candidate], Backend]  # raises BundleError and EngineError
Clock = Callable[[], float]  # s

MEASURE = "CYCLEGAN_EDGE_MEASURE"

_BUDGET = 1.0  # s of pictures that are timed, of all engines together
_MOST_ROUNDS = 10
_PATIENCE = 10.0  # s, opening and first pictures included: then no further engine is tried
_HOPELESS = 2.0  # so many times slower than the fastest: not tried again, or not at all where that was recorded
_SIZES = (64, 128, 256, 512)  # px: pictures of any size are measured as the nearest of these
_MAX_BYTES = 1 << 16  # of a file in the cache
_USUALLY = ("ncnn", "openvino", "onnxruntime")  # the fastest first, where nothing was recorded of a CPU


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What was measured of a model on this machine, as it is remembered."""

    date: str
    size: int  # px, both sides of the picture
    ms: dict[str, float]  # "openvino fp32": of a picture, the least
    refused: dict[str, str]  # "openvino bf16": why its pictures are not good enough


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """Candidates, the one to take first."""

    order: tuple[Candidate, ...]
    choice: Choice | None = None  # what it rests on; None: on what was recorded
    opened: dict[Candidate, Backend] = field(default_factory=dict)  # what is open already
    failed: dict[Candidate, str] = field(default_factory=dict)  # why it does not open, a sentence

    def why(self, taken: Candidate) -> list[str]:
        """Sentences about how it came to `taken`; none where there was no choice."""
        if self.choice is None:
            usual = f"{taken} was taken, the first of what is usual on a CPU with {cpu_class(cpu_flags())}."
            return [usual] if len(self.order) > 1 else []
        others = ", ".join(f"{it} {self.choice.ms[str(it)]:.1f}" for it in self.order if it != taken)
        here = f"{self.choice.ms[str(taken)]:.1f} ms a picture of {self.choice.size} px, measured on {self.choice.date}"
        refused = [f"{name} was passed over: its picture {why}." for name, why in self.choice.refused.items()]
        return [*refused, f"{taken} was taken: {'; '.join(filter(None, (here, others)))}."]


def choose(
    bundle: Bundle,
    candidates: Iterable[Candidate],
    *,
    threads: int,
    size: int,
    bounded: bool,
    open_: Open,
    clock: Clock = time.perf_counter,
) -> Ranked:
    """Rank `candidates`, which are installed and for which the bundle holds something, for pictures of about `size` px.

    bounded   whether only what is within the bound of its precision may be taken

    Raises nothing of what opening them raises.
    """
    expected = expectations(bundle)
    usual = sorted(candidates, key=lambda it: usually(it, expected))
    if len(usual) < 2 or os.environ.get(MEASURE) == "0":
        exact = [it for it in usual if is_exact(it)]
        return Ranked(order=tuple(exact or usual))
    side = _side(size, bundle.manifest.multiple)
    path = _cache_of(bundle, usual, threads, side)
    choice = _remembered(path, usual)
    opened: dict[Candidate, Backend] = {}
    failed: dict[Candidate, str] = {}
    if choice is None:
        worth = [it for it in usual if not _is_hopeless(it, usual, expected)]
        choice = measure_here(bundle, worth, opened, failed, side=side, bounded=bounded, open_=open_, clock=clock)
        if path is not None and choice.ms and not failed:
            with suppress(SinkError):
                write_file(path, json.dumps(to_mapping(choice)))
    good = [it for it in usual if str(it) in choice.ms and str(it) not in choice.refused]
    order = sorted(good, key=lambda it: choice.ms[str(it)])
    return Ranked(order=tuple(order), choice=choice, opened=opened, failed=failed)


def measure_here(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    opened: dict[Candidate, Backend],
    failed: dict[Candidate, str],
    *,
    side: int,
    bounded: bool,
    open_: Open,
    clock: Clock,
) -> Choice:
    """Open `candidates` and time them in turns, on pictures of `side` px.

    What is worth keeping open is added to `opened`, and why something does not run to `failed`.
    """
    pairs = _pairs(bundle)
    shown = pairs[0][0] if pairs else render(0, "summer", size=(side, side))
    picture = np.ascontiguousarray(resize(shown, (side, side))[np.newaxis])
    ms: dict[Candidate, float] = {}
    begun = clock()
    for candidate in candidates:
        if clock() - begun > _PATIENCE and any(map(is_exact, ms)):
            break
        try:
            backend = open_(candidate)
            backend.run(picture)  # its first is slower
            ms[candidate] = _timed(backend, picture, clock)
        except (BundleError, EngineError) as error:
            failed[candidate] = str(error)
        else:
            if ms[candidate] <= _HOPELESS * min(ms.values()):
                opened[candidate] = backend
    spent = sum(ms.values())
    for _ in range(_MOST_ROUNDS if len(opened) > 1 else 0):
        if spent >= 1000 * _BUDGET:
            break
        for candidate, backend in opened.items():
            took = _timed(backend, picture, clock)
            spent += took
            ms[candidate] = min(ms[candidate], took)
    refused: dict[str, str] = {}
    for candidate in sorted(ms, key=lambda it: ms[it]) if bounded else ():
        wrong = None if is_exact(candidate) else _why_not_good(candidate, opened.get(candidate), pairs)
        if wrong is None:
            break  # what is slower need not be good
        refused[str(candidate)] = wrong
    for candidate in [it for it in opened if str(it) in refused]:
        del opened[candidate]
    return Choice(
        date=date.today().isoformat(), size=side, ms={str(it): round(t, 3) for it, t in ms.items()}, refused=refused
    )


def expectations(bundle: Bundle) -> dict[str, float]:
    """ "openvino fp32" -> ms, as recorded on a CPU of this class with a model of this kind, the nearest in size."""
    graph = bundle.artifact("onnx", "fp32")
    reports = (it for it in recorded().values() if it.machine.cpu_class == cpu_class(cpu_flags()))
    models = [model for report in reports for model in report.models if model.rows]
    if not models or graph is None or not graph.bytes:
        return {}
    size, (kind, _, _) = graph.bytes, architecture_of(bundle).partition(" ")

    def distance(model: Measured) -> tuple[bool, float]:
        return not model.architecture.startswith(f"{kind} "), abs(math.log(model.graph_bytes / size))

    return {f"{row.engine} {row.precision}": row.median_ms for row in min(models, key=distance).rows}


def usually(candidate: Candidate, expected: dict[str, float]) -> tuple[float, int, bool]:
    """What to sort by before anything was measured here."""
    return expected.get(str(candidate), math.inf), _USUALLY.index(candidate.engine), not is_exact(candidate)


def _is_hopeless(candidate: Candidate, others: Sequence[Candidate], expected: dict[str, float]) -> bool:
    """Whether another was recorded as much faster, and is no less exact."""
    rivals = (it for it in others if is_exact(it) or not is_exact(candidate))
    fastest = min((expected.get(str(it), math.inf) for it in rivals), default=math.inf)
    return expected.get(str(candidate), 0.0) > _HOPELESS * fastest


def _why_not_good(candidate: Candidate, backend: Backend | None, pairs: Sequence[Pair]) -> str | None:
    if backend is None or not pairs:
        return "could not be compared with PyTorch's"
    try:
        return " and ".join(out_of_bounds(measure(backend.run, pairs, bound=BOUNDS[candidate.precision]))) or None
    except (EngineError, ExportError) as error:
        return f"could not be compared ({str(error).rstrip('.')})"


def _timed(backend: Backend, picture: Batch, clock: Clock) -> float:
    begun = clock()
    backend.run(picture)
    return 1000 * (clock() - begun)


def _pairs(bundle: Bundle) -> list[Pair]:
    try:
        return reference_pairs(bundle)
    except (BundleError, ImageError):
        return []


def _side(size: int, multiple: int) -> int:
    side = min(_SIZES, key=lambda it: abs(math.log(it / size)))
    return -(-side // multiple) * multiple


def _cache_of(bundle: Bundle, candidates: Iterable[Candidate], threads: int, side: int) -> Path | None:
    """Where this choice is remembered; None where the user has no home."""
    facts: list[Any] = [cpu_name(), sorted(cpu_flags()), threads, side]
    for candidate in candidates:
        artifact = artifact_of(bundle, candidate)
        hashes = [part.sha256 for part in artifact.files()] if artifact else []
        facts.append([str(candidate), version_of(candidate.engine), hashes])
    try:
        folder = user_cache("engines")
    except RuntimeError:
        return None
    return folder / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.json"


def _remembered(path: Path | None, candidates: Sequence[Candidate]) -> Choice | None:
    """What the cache holds, when it holds a choice between some of `candidates`."""
    try:
        if path is None or path.stat().st_size > _MAX_BYTES:
            return None
        choice = from_mapping(Choice, json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, ConfigError):
        return None
    known = {*map(str, candidates)}
    sound = known >= {*choice.ms, *choice.refused} and all(math.isfinite(ms) and ms > 0 for ms in choice.ms.values())
    return choice if sound and {*choice.ms} > {*choice.refused} else None
