"""Which engine `auto` takes on a CPU: with engines of known speed, a clock that only they move, and once for real."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from cyclegan_edge.backends import candidates, choice, open_backend
from cyclegan_edge.backends.base import Backend
from cyclegan_edge.backends.candidates import Candidate, is_exact, is_gain
from cyclegan_edge.backends.choice import MEASURE, Ranked, choose
from cyclegan_edge.backends.measured import Measured, Report, Row
from cyclegan_edge.bundle import Bundle, Part, Reference, read_bundle
from cyclegan_edge.contract import Batch, Precision, Translate
from cyclegan_edge.errors import EngineError
from cyclegan_edge.files import sha256
from cyclegan_edge.images import write_image
from cyclegan_edge.machine import this_machine

NCNN, OPENVINO, ONNXRUNTIME = (Candidate(it, "fp32") for it in ("ncnn", "openvino", "onnxruntime"))
BRIEF = Candidate("openvino", "bf16")


class World:
    """Engines that take the milliseconds they are said to take, by a clock that nothing else moves."""

    def __init__(self, translated: Translate, **milliseconds: float) -> None:
        self.speed = {name.replace("_", " "): ms for name, ms in milliseconds.items()}
        self.now = 0.0
        self.opened: list[str] = []
        self.runs: list[str] = []
        self.translated = translated
        self.wrong: dict[str, int] = {}  # levels that an engine is off by
        self.broken: set[str] = set()

    def clock(self) -> float:
        return self.now

    def open(self, candidate: Candidate) -> Backend:
        self.opened.append(str(candidate))
        if str(candidate) in self.broken:
            raise EngineError(f"{candidate} is broken.")
        return Timed(self, str(candidate))


class Timed:
    device = "CPU"

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name

    def run(self, images: Batch) -> Batch:
        self.world.now += self.world.speed[self.name] / 1000
        self.world.runs.append(self.name)
        return self.world.translated(images) + np.uint8(self.world.wrong.get(self.name, 0))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measuring is on, nothing was recorded, and the user's cache is empty."""
    monkeypatch.delenv(MEASURE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "recorded", dict)


@pytest.fixture
def bundle(tiny_bundle: Path, tiny_translated: Translate, rng: np.random.Generator) -> Bundle:
    """`tiny_bundle` with a picture and its translation."""
    picture = rng.integers(60, 120, (1, 32, 32, 3), dtype=np.uint8)
    parts = []
    for name, shown in (("a.png", picture), ("b.png", tiny_translated(picture))):
        write_image(tiny_bundle / name, shown[0])
        parts.append(Part(file=name, sha256=sha256(tiny_bundle / name)))
    found = read_bundle(tiny_bundle)
    return Bundle(tiny_bundle, replace(found.manifest, references=(Reference(picture=parts[0], translated=parts[1]),)))


@pytest.fixture
def ask(bundle: Bundle) -> Callable[..., Ranked]:
    """`choose` among these candidates in a world."""

    def ask_of(world: World, *candidates: Candidate, threads: int = 2, size: int = 32, bounded: bool = True) -> Ranked:
        return choose(
            bundle, candidates, threads=threads, size=size, bounded=bounded, open_=world.open, clock=world.clock
        )

    return ask_of


@pytest.fixture
def cached(tmp_path: Path) -> Callable[[], list[Path]]:
    return lambda: sorted((tmp_path / "cache").rglob("*.json"))


def test_the_fastest_is_taken_and_stays_open(ask: Callable[..., Ranked], tiny_translated: Translate) -> None:
    world = World(tiny_translated, openvino_fp32=30, onnxruntime_fp32=20)

    ranked = ask(world, OPENVINO, ONNXRUNTIME)

    assert ranked.order == (ONNXRUNTIME, OPENVINO)
    assert ranked.opened[ONNXRUNTIME].name == "onnxruntime fp32"
    assert "onnxruntime fp32 was taken: 20.0 ms a picture of 64 px, measured on 2" in ranked.why(ONNXRUNTIME)[-1]
    assert ranked.why(ONNXRUNTIME)[-1].endswith("; openvino fp32 30.0.")


def test_engines_take_turns(ask: Callable[..., Ranked], tiny_translated: Translate) -> None:
    world = World(tiny_translated, openvino_fp32=30, onnxruntime_fp32=20)

    ask(world, OPENVINO, ONNXRUNTIME)

    rounds = world.runs[4:]  # before: each twice when it was opened
    assert rounds == ["openvino fp32", "onnxruntime fp32"] * (len(rounds) // 2)
    assert len(rounds) >= 4


def test_measuring_ends_after_a_second_of_pictures(ask: Callable[..., Ranked], tiny_translated: Translate) -> None:
    world = World(tiny_translated, openvino_fp32=600, onnxruntime_fp32=500)

    ask(world, OPENVINO, ONNXRUNTIME)

    assert world.runs == ["openvino fp32"] * 2 + ["onnxruntime fp32"] * 2


def test_on_a_slow_machine_no_further_engine_is_tried_once_an_exact_one_was(
    ask: Callable[..., Ranked], tiny_translated: Translate
) -> None:
    world = World(tiny_translated, ncnn_fp32=6000, openvino_fp32=1, onnxruntime_fp32=1)

    ranked = ask(world, NCNN, OPENVINO, ONNXRUNTIME)

    assert world.opened == ["ncnn fp32"]
    assert ranked.order == (NCNN,)


def test_what_is_twice_as_slow_gets_no_more_turns_and_is_not_kept_open(
    ask: Callable[..., Ranked], tiny_translated: Translate
) -> None:
    world = World(tiny_translated, openvino_fp32=10, onnxruntime_fp32=21, ncnn_fp32=12)

    ranked = ask(world, OPENVINO, ONNXRUNTIME, NCNN)

    assert world.runs.count("onnxruntime fp32") == 2
    assert {*ranked.opened} == {OPENVINO, NCNN}
    assert ranked.order == (OPENVINO, NCNN, ONNXRUNTIME)


def test_the_second_time_nothing_is_measured(ask: Callable[..., Ranked], tiny_translated: Translate) -> None:
    world = World(tiny_translated, openvino_fp32=30, onnxruntime_fp32=20)
    first = ask(world, OPENVINO, ONNXRUNTIME)
    world.opened.clear()

    again = ask(world, OPENVINO, ONNXRUNTIME)

    assert (again.order, again.choice) == (first.order, first.choice)
    assert world.opened == []


@pytest.mark.parametrize("change", ["threads", "size", "graph", "candidates", "version", "cpu"])
def test_anything_that_decides_the_speed_is_measured_anew(
    change: str, ask: Callable[..., Ranked], bundle: Bundle, tiny_translated: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tiny_translated, openvino_fp32=30, onnxruntime_fp32=20, ncnn_fp32=10)
    ask(world, OPENVINO, ONNXRUNTIME)
    world.opened.clear()
    candidates = [OPENVINO, ONNXRUNTIME]
    match change:
        case "graph":
            object.__setattr__(bundle.manifest.artifacts[0], "sha256", "1" * 64)
        case "candidates":
            candidates.append(NCNN)
        case "version":
            monkeypatch.setattr(choice, "version_of", lambda engine: "9.9")
        case "cpu":
            monkeypatch.setattr(choice, "cpu_name", lambda: "another")

    ask(world, *candidates, **{name: 128 for name in (change,) if name in ("threads", "size")})

    assert world.opened


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"date": "x", "size": 64, "ms": {}, "refused": {}}',
        '{"date": "x", "size": 64, "ms": {"openvino fp32": NaN}, "refused": {}}',
        '{"date": "x", "size": 64, "ms": {"openvino fp32": -1}, "refused": {}}',
        '{"date": "x", "size": 64, "ms": {"evil": 1}, "refused": {}}',
        '{"date": "x", "size": 64, "ms": {"openvino fp32": 1}, "refused": {"openvino fp32": "no"}}',
        "[" * 60_000,
        " " * 70_000 + "{}",
    ],
)
def test_a_cache_that_makes_no_sense_is_measured_again(
    content: str, ask: Callable[..., Ranked], cached: Callable[[], list[Path]], tiny_translated: Translate
) -> None:
    world = World(tiny_translated, openvino_fp32=30, onnxruntime_fp32=20)
    ask(world, OPENVINO, ONNXRUNTIME)
    (path,) = cached()
    path.write_text(content)

    ranked = ask(world, OPENVINO, ONNXRUNTIME)

    assert ranked.order == (ONNXRUNTIME, OPENVINO)
    assert json.loads(path.read_text())["ms"] == {"openvino fp32": 30.0, "onnxruntime fp32": 20.0}


def test_a_cache_that_cannot_be_written_is_no_error(
    ask: Callable[..., Ranked], tiny_translated: Translate, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    world = World(tiny_translated, openvino_fp32=30, onnxruntime_fp32=20)

    assert ask(world, OPENVINO, ONNXRUNTIME).order == (ONNXRUNTIME, OPENVINO)
    assert ask(world, OPENVINO, ONNXRUNTIME).order == (ONNXRUNTIME, OPENVINO)


def test_a_user_without_a_home_is_no_error(
    ask: Callable[..., Ranked], tiny_translated: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(name: str) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(choice, "user_cache", homeless)

    assert ask(World(tiny_translated, openvino_fp32=30, onnxruntime_fp32=20), OPENVINO, ONNXRUNTIME).order


def test_bfloat16_within_its_bound_is_taken_when_it_is_faster(
    ask: Callable[..., Ranked], tiny_translated: Translate
) -> None:
    world = World(tiny_translated, openvino_fp32=30, openvino_bf16=15)
    world.wrong["openvino bf16"] = 2  # 42.1 dB

    assert ask(world, OPENVINO, BRIEF).order == (BRIEF, OPENVINO)


def test_bfloat16_beyond_its_bound_is_not_taken_however_fast(
    ask: Callable[..., Ranked], tiny_translated: Translate
) -> None:
    world = World(tiny_translated, openvino_fp32=30, openvino_bf16=5)
    world.wrong["openvino bf16"] = 3  # 38.6 dB

    ranked = ask(world, OPENVINO, BRIEF)
    again = ask(world, OPENVINO, BRIEF)

    assert ranked.order == again.order == (OPENVINO,)
    assert ranked.why(OPENVINO)[0].startswith("openvino bf16 was passed over: its picture is 38.6 dB from PyTorch")


def test_bfloat16_that_cannot_be_compared_is_not_taken(
    ask: Callable[..., Ranked], bundle: Bundle, tiny_translated: Translate
) -> None:
    object.__setattr__(bundle.manifest, "references", ())

    assert ask(World(tiny_translated, openvino_fp32=30, openvino_bf16=15), OPENVINO, BRIEF).order == (OPENVINO,)


def test_what_does_not_open_is_said_and_nothing_is_remembered(
    ask: Callable[..., Ranked], cached: Callable[[], list[Path]], tiny_translated: Translate
) -> None:
    world = World(tiny_translated, openvino_fp32=10, onnxruntime_fp32=20)
    world.broken.add("openvino fp32")

    ranked = ask(world, OPENVINO, ONNXRUNTIME)

    assert ranked.order == (ONNXRUNTIME,)
    assert ranked.failed == {OPENVINO: "openvino fp32 is broken."}
    assert cached() == []


def test_one_candidate_is_not_measured(ask: Callable[..., Ranked], tiny_translated: Translate) -> None:
    world = World(tiny_translated, onnxruntime_fp32=20)

    ranked = ask(world, ONNXRUNTIME)

    assert (ranked.order, ranked.why(ONNXRUNTIME), world.opened) == ((ONNXRUNTIME,), [], [])


def recorded(
    graph_bytes: int, cpu_class: str, times: dict[Candidate, float], architecture: str = "negative 1x1"
) -> Report:
    """What was recorded of a model on a CPU."""
    rows = [
        Row(
            engine=candidate.engine,
            precision=candidate.precision,
            version="1",
            device="CPU, 2 threads",
            median_ms=milliseconds,
            p95_ms=milliseconds,
            per_second=1000 / milliseconds,
            memory_mb=1,
            file_bytes=1,
            psnr_db=100.0,
        )
        for candidate, milliseconds in times.items()
    ]
    return Report(
        date="2026-11-27",
        protocol="",
        machine=replace(this_machine(), cpu_class=cpu_class),
        versions={},
        size=256,
        threads=2,
        models=(
            Measured(architecture=architecture, graph_sha256="", graph_bytes=graph_bytes, rows=tuple(rows), refused={}),
        ),
    )


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """A small model, a large one, one on another kind of CPU, and others that are nearer in size."""
    graph = bundle.manifest.artifacts[0]
    object.__setattr__(graph, "bytes", 1000)
    here = this_machine().cpu_class
    reports = (
        recorded(1200, here, {OPENVINO: 5, ONNXRUNTIME: 11, NCNN: 3}),
        recorded(50_000, here, {OPENVINO: 50, ONNXRUNTIME: 10, NCNN: 80}),
        recorded(1000, "pdp-11", {OPENVINO: 9, ONNXRUNTIME: 1, NCNN: 9}),
        recorded(1000, here, {OPENVINO: 9, ONNXRUNTIME: 1, NCNN: 9}, "another 1x1"),
        recorded(1000, here, {}),
    )
    monkeypatch.setattr(choice, "recorded", lambda: dict(enumerate(reports)))


@pytest.mark.usefixtures("table")
def test_without_measuring_the_nearest_model_of_its_kind_recorded_on_this_class_of_cpu_decides(
    ask: Callable[..., Ranked], tiny_translated: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEASURE, "0")
    world = World(tiny_translated)

    ranked = ask(world, ONNXRUNTIME, NCNN, OPENVINO, BRIEF)

    assert ranked.order == (NCNN, OPENVINO, ONNXRUNTIME)  # bfloat16 is nothing that can be judged unseen
    assert world.opened == []
    assert "usual on a CPU with" in ranked.why(NCNN)[0]


@pytest.mark.usefixtures("table")
def test_what_was_recorded_as_hopeless_is_not_even_opened(
    ask: Callable[..., Ranked], tiny_translated: Translate
) -> None:
    world = World(tiny_translated, ncnn_fp32=30, openvino_fp32=20, onnxruntime_fp32=1)

    ranked = ask(world, OPENVINO, NCNN, ONNXRUNTIME)

    assert world.opened == ["ncnn fp32", "openvino fp32"]
    assert ranked.order == (OPENVINO, NCNN)


def test_auto_really_measures_once_and_says_what_it_took(
    tiny_bundle: Path, cached: Callable[[], list[Path]], tiny_translated: Translate
) -> None:
    pytest.importorskip("openvino")
    images = np.zeros((1, 32, 32, 3), np.uint8)

    first = open_backend(read_bundle(tiny_bundle), threads=1)
    stored = [path.read_bytes() for path in cached()]
    second = open_backend(read_bundle(tiny_bundle), threads=1)

    np.testing.assert_array_equal(first.backend.run(images), tiny_translated(images))
    assert {*json.loads(stored[0])["ms"]} == {"openvino fp32", "onnxruntime fp32"}
    assert [path.read_bytes() for path in cached()] == stored
    assert second.backend.name == first.backend.name
    assert second.remarks == first.remarks
    assert f"{' '.join(first.backend.name.split()[::2])} was taken: " in first.remarks[-1]


@pytest.mark.parametrize(
    ("flags", "exact", "gains"),
    [
        ("avx2 fma", {"fp32", "fp16"}, {"int8"}),
        ("avx512_bf16", {"fp32", "fp16"}, {"bf16", "int8"}),
        ("asimd fphp", {"fp32"}, {"fp16", "int8"}),
    ],
)
def test_what_openvino_computes_in_a_precision_depends_on_the_cpu(
    flags: str, exact: set[str], gains: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "cpu_flags", lambda: frozenset(flags.split()))
    precisions = get_args(Precision)

    assert {it for it in precisions if is_exact(Candidate("openvino", it))} == exact
    assert {it for it in precisions if is_gain(Candidate("openvino", it))} == gains
    assert is_exact(Candidate("ncnn", "fp16"))  # float16 is how its weights are stored
