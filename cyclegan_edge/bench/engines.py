"""`cyclegan-edge bench engines`: every engine and precision that opens a bundle here, measured in turns.

Each engine lives in a process of its own (`child.py`) and waits while another translates. Turns of a tenth of a second
follow each other until every engine had as many as asked for, so a clock that drifts hurts all alike. Several bundles
are measured one after the other.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cyclegan_edge.backends import ENGINES, command_for, open_backend
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.backends.candidates import Candidate, artifact_of, held
from cyclegan_edge.backends.measured import Measured, Report, Row, architecture_of
from cyclegan_edge.bench.child import Opening, Task, Times
from cyclegan_edge.bounds import reference_pairs
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.contract import Batch, Picture
from cyclegan_edge.errors import BundleError, EngineError
from cyclegan_edge.geometry import check_fit
from cyclegan_edge.machine import this_machine
from cyclegan_edge.preprocess import resize
from cyclegan_edge.scenes import render
from cyclegan_edge.schema import from_mapping, to_mapping

T = TypeVar("T")
OnProgress = Callable[[int, int, str], None]  # how many are done, of how many, what is under way

_TURN = 0.1  # s
_MOST = 20  # pictures in a turn
_PICTURES = 3
_GRACE = 5  # s that an engine gets to end by itself
_PACKAGES = ("cyclegan-edge", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "ncnn", "tensorrt", "tensorrt-rtx")


def measure_engines(
    bundles: Sequence[Bundle],
    *,
    size: int,
    threads: int,
    rounds: int = 20,
    engines: Sequence[EngineName] = ENGINES,
    on_progress: OnProgress = lambda done, total, note: None,
) -> Report:
    """Measure each of `engines` with each of `bundles`, one at least, in each precision that the bundle holds for it.

    size      px, both sides of the pictures
    threads   of the engines that run on the CPU
    rounds    turns of each engine

    Raises BundleError when a bundle is damaged, EngineError when nothing of them runs here, ConfigError for a size that
    a model cannot have.
    """
    for bundle in bundles:
        check_fit("stretch", size, bundle.manifest.multiple)
        bundle.path(_graph_of(bundle))
    models = []
    for number, bundle in enumerate(bundles):
        show = on_progress if len(bundles) == 1 else _as_one_of(bundles, number, on_progress)
        here = Bundle(bundle.folder.resolve(), bundle.manifest)  # absolute: `_without_paths` finds it
        models.append(_measured(here, size, threads, rounds, engines, show))
    if not any(model.rows for model in models):
        reasons = " ".join(f"{name}: {reason}" for name, reason in models[-1].refused.items())
        raise EngineError(f"Nothing in {bundles[-1].folder} runs here. {reasons}")
    return Report(
        date=date.today().isoformat(),
        protocol=(
            f"uint8 RGB pictures of {size}x{size} from memory to memory, one at a time; a process per engine, "
            f"{rounds} turns of {_TURN} s each, one engine after the other, the first picture of a turn not counted; "
            f"memory: the most that the process grew by from before the import of its engine; PSNR over "
            f"{_PICTURES} pictures at most, to the float32 graph run by ONNX Runtime"
        ),
        machine=this_machine(),
        versions={"python": sys.version.split()[0], **_versions()},
        size=size,
        threads=threads,
        models=tuple(models),
    )


def _as_one_of(bundles: Sequence[Bundle], number: int, on_progress: OnProgress) -> OnProgress:
    """Progress within a bundle, told as that through all of them."""
    name = architecture_of(bundles[number])
    return lambda done, total, note: on_progress(number, len(bundles), f"{name}, {note}")


def _graph_of(bundle: Bundle) -> Artifact:
    graph = bundle.artifact("onnx", "fp32")
    if graph is None:
        raise BundleError(f"{bundle.folder} holds no fp32 ONNX graph to compare with; export the model again.")
    return graph


def _measured(
    bundle: Bundle, size: int, threads: int, rounds: int, engines: Sequence[EngineName], on_progress: OnProgress
) -> Measured:
    pictures = np.stack(list(_pictures(bundle, size)))
    candidates = [candidate for engine in engines for candidate in held(bundle, engine)]
    refused: dict[str, str] = {
        engine: f"the bundle holds nothing for it; `{command_for(bundle, engine)}` adds it."
        for engine in engines
        if not any(candidate.engine == engine for candidate in candidates)
    }
    with tempfile.TemporaryDirectory(prefix="cyclegan-edge-") as folder, ExitStack() as stack:
        pairs = Path(folder, "pairs.npy")
        np.save(pairs, np.stack([pictures, _translated(bundle, pictures)]))
        runners: dict[Candidate, _Runner] = {}
        for number, candidate in enumerate(candidates):
            on_progress(number, len(candidates), f"opening {candidate}")
            task = Task(bundle=bundle.folder, **candidate._asdict(), threads=threads, pairs=pairs)
            try:
                runners[candidate] = stack.enter_context(_started(task))
            except EngineError as error:
                refused[str(candidate)] = str(error)
        left = _in_turns(runners, refused, rounds, on_progress)
        rows = [_row(bundle, candidate, runner) for candidate, runner in left.items()]
    graph = _graph_of(bundle)
    return Measured(
        architecture=architecture_of(bundle),
        graph_sha256=graph.sha256,
        graph_bytes=(bundle.folder / graph.file).stat().st_size,
        rows=tuple(sorted(rows, key=lambda row: row.median_ms)),
        refused={name: _without_paths(reason, bundle.folder) for name, reason in refused.items()},
    )


def _without_paths(reason: str, folder: Path) -> str:
    """The sentence, without what it tells of where the bundle and its user are at home."""
    reason = reason.replace(str(folder), "MODEL")
    home = os.environ.get("HOME", "").rstrip("/")
    return reason.replace(home, "~") if home else reason


class _Runner:
    """A process that has opened an engine."""

    def __init__(self, process: "subprocess.Popen[str]", errors: Any, candidate: Candidate) -> None:
        self._process, self._errors, self._candidate = process, errors, candidate
        self.opening = Opening()
        self.times: list[float] = []  # ms
        self._typical = 500 * _TURN  # ms
        self.memory_mb = 0

    def ask(self, kind: type[T], question: str) -> T:
        """Its answer to a line. Raises EngineError when it died instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()
            cause = f"signal {-code}; is there memory for it?" if code < 0 else (said or ["it said nothing"])[-1]
            raise EngineError(f"its process ended ({cause:.200})")
        return from_mapping(kind, json.loads(answer))

    def take_turn(self, *, keep: bool) -> None:
        """Translate for about `_TURN`, and keep the times but for the first, or only learn how many make a turn."""
        count = min(_MOST, ceil(1000 * _TURN / self._typical))
        warm = int(count > 1)
        found = self.ask(Times, str(count + warm))
        self._typical, self.memory_mb = min(found.ms), found.memory_mb
        if keep:
            self.times += found.ms[warm:]


@contextmanager
def _started(task: Task) -> Iterator[_Runner]:
    """A runner of the task, which ends with the block. Raises EngineError when its engine does not open."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "cyclegan_edge.bench.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        )
        runner = _Runner(process, errors, Candidate(task.engine, task.precision))
        try:
            runner.opening = runner.ask(Opening, json.dumps(to_mapping(task)))
            if runner.opening.error:
                raise EngineError(runner.opening.error)
            yield runner
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    """Let it end by itself, or kill it."""
    for pipe in (process.stdin, process.stdout):
        with suppress(BrokenPipeError):
            assert pipe is not None
            pipe.close()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _in_turns(
    runners: dict[Candidate, _Runner], refused: dict[str, str], rounds: int, on_progress: OnProgress
) -> dict[Candidate, _Runner]:
    """Let each of `runners` have its turns; one that dies goes over to `refused`. Returns those that are left."""
    left = dict(runners)
    for number in range(rounds + 1):  # the first is for finding its feet
        for candidate, runner in list(left.items()):
            on_progress(number, rounds + 1, str(candidate))
            try:
                runner.take_turn(keep=number > 0)
            except EngineError as error:
                refused[str(candidate)] = str(error)
                del left[candidate]
    return left


def _row(bundle: Bundle, candidate: Candidate, runner: _Runner) -> Row:
    artifact = artifact_of(bundle, candidate)
    parts = artifact.files() if artifact else ()
    median, p95 = np.percentile(runner.times, (50, 95))
    name, _, rest = runner.opening.name.partition(" ")
    return Row(
        engine=candidate.engine,
        precision=candidate.precision,
        version=rest.rpartition(" ")[0] or name,
        device=runner.opening.device,
        median_ms=round(float(median), 3),
        p95_ms=round(float(p95), 3),
        per_second=round(1000 * len(runner.times) / sum(runner.times), 2),
        memory_mb=runner.memory_mb,
        file_bytes=sum((bundle.folder / part.file).stat().st_size for part in parts),
        psnr_db=round(runner.opening.psnr_db, 1),
        out_of_bounds=runner.opening.out_of_bounds,
    )


def _pictures(bundle: Bundle, size: int) -> Iterator[Picture]:
    """Those that travel with the bundle, else rendered ones, (size, size, 3)."""
    found = [picture for picture, _ in reference_pairs(bundle)]
    found = found or [render(seed, "summer", size=(size, size)) for seed in range(_PICTURES)]
    return (resize(picture, (size, size)) for picture in found)


def _translated(bundle: Bundle, pictures: Batch) -> Batch:
    """What the float32 graph makes of them."""
    backend, _ = open_backend(bundle, engine="onnxruntime", precision="fp32")
    return np.concatenate([backend.run(picture[np.newaxis]) for picture in pictures])


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
