"""Pictures through an engine, one or several at a time, on a TensorRT and a CUDA that record what they are told."""

import ctypes
import re
import runpy
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyclegan_edge import preprocess
from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import Pipelined, run_many
from cyclegan_edge.backends.cuda import Cuda
from cyclegan_edge.backends.tensorrt.explain import explain
from cyclegan_edge.backends.tensorrt.library import AMPERE_AND_NEWER, RTX, load, this_device, this_platform
from cyclegan_edge.backends.tensorrt.rtx import cache_file
from cyclegan_edge.backends.tensorrt.run import IN_FLIGHT, TensorrtBackend
from cyclegan_edge.bundle import Artifact, Bundle, Targets
from cyclegan_edge.errors import EngineError, SourceError
from cyclegan_edge.files import sha256

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_tensorrt.py"))
VERSIONS: list[str] = FAKE["VERSIONS"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_picture_goes_through_and_the_graph_takes_over(
    install: Callable[[str], Any], version: str, engine_bundle: Callable[..., Bundle]
) -> None:
    fake = install(version)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (1, 256, 256, 3), dtype=np.uint8) for _ in range(4)]

    engine = TensorrtBackend(engine_bundle())
    results = [engine.run(picture) for picture in pictures]

    for picture, result in zip(pictures, results, strict=True):
        np.testing.assert_array_equal(result, 255 - picture)
        assert preprocess.resize(result[0], (64, 64)).dtype == np.uint8, "the extension takes it"
    assert (engine.name, engine.device) == (f"tensorrt {version} fp16", "Fake Orin")
    assert len(fake.called("IExecutionContext.execute_async_v3")) == 2, "once plainly, once into the graph"
    assert fake.cudart.fake_calls(b"cudaGraphLaunch") == 3
    order = [name for name, _ in fake.calls if name.startswith("IExecutionContext.set_input") or "infer" in name]
    assert order == ["IExecutionContext.set_input_shape", "IExecutionContext.infer_shapes"]
    engine.close()
    assert fake.cudart.fake_live() == 0


def test_another_shape_starts_over(fake: Any, engine_bundle: Callable[..., Bundle]) -> None:
    engine = TensorrtBackend(engine_bundle())
    small, large = np.full((1, 256, 256, 3), 7, np.uint8), np.full((2, 512, 512, 3), 9, np.uint8)

    for picture in (small, small, large, small, small):
        np.testing.assert_array_equal(engine.run(picture), 255 - picture)

    assert fake.called("IExecutionContext.set_input_shape") == [
        ("image", picture.shape) for picture in (small, large, small)
    ]
    assert fake.cudart.fake_calls(b"cudaGraphExecDestroy") == 1
    engine.close()
    assert fake.cudart.fake_live() == 0


def test_without_the_graph_every_batch_runs_plainly(fake: Any, engine_bundle: Callable[..., Bundle]) -> None:
    engine = TensorrtBackend(engine_bundle(), cuda_graph=False)

    for _ in range(3):
        engine.run(np.zeros((1, 256, 256, 3), np.uint8))

    assert len(fake.called("IExecutionContext.execute_async_v3")) == 3
    assert fake.cudart.fake_calls(b"cudaStreamBeginCapture") == 0


def test_threads_take_turns(fake: Any, engine_bundle: Callable[..., Bundle]) -> None:
    engine = TensorrtBackend(engine_bundle(), cuda_graph=False)
    fake.during_run = lambda: time.sleep(0.002)  # long enough for another thread to come in
    wrong: list[int] = []

    def work(value: int) -> None:
        picture = np.full((1, 256, 256, 3), value, np.uint8)
        wrong.extend(value for _ in range(5) if (engine.run(picture) != 255 - value).any())

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (
            np.zeros((1, 720, 1280, 3), np.uint8),
            r"from \(1, 256, 256\) to \(2, 512, 512\), got \(1, 720, 1280\); rebuild",
        ),
        (np.zeros((1, 256, 256, 3), np.float32), r"images is float32 \(1, 256, 256, 3\), expected uint8"),
        (np.zeros((256, 256, 3), np.uint8), r"expected uint8 \(N, H, W, 3\)"),
    ],
)
def test_a_picture_the_engine_was_not_built_for_is_a_sentence(
    fake: Any, engine_bundle: Callable[..., Bundle], picture: np.ndarray, sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence):
        TensorrtBackend(engine_bundle()).run(picture)


@pytest.mark.parametrize("batches", [1, 2], ids=["plainly", "while capturing"])
def test_a_failing_network_is_told_in_its_words_and_leaks_nothing(
    fake: Any, engine_bundle: Callable[..., Bundle], batches: int
) -> None:
    engine = TensorrtBackend(engine_bundle())
    picture = np.zeros((1, 256, 256, 3), np.uint8)
    for _ in range(batches - 1):
        engine.run(picture)
    fake.runs = False

    with pytest.raises(EngineError, match=r"could not translate the batch \(illegal memory access\)"):
        engine.run(picture)

    fake.runs = True
    np.testing.assert_array_equal(engine.run(picture), 255 - picture)
    engine.close()
    assert fake.cudart.fake_live() == 0


@pytest.mark.parametrize("call", ["cudaStreamCreateWithFlags", "cudaHostAlloc", "cudaMalloc"])
def test_memory_that_runs_out_while_opening_leaks_nothing(
    fake: Any, engine_bundle: Callable[..., Bundle], call: str
) -> None:
    bundle = engine_bundle()
    fake.cudart.fake_fail(call.encode(), 2)

    with pytest.raises(EngineError, match=f"{call} failed: out of memory"):
        TensorrtBackend(bundle)

    assert fake.cudart.fake_live() == 0


def pictures(rng: np.random.Generator, shapes: list[tuple[int, int, int]]) -> list[np.ndarray]:
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cuda_graph", [False, True], ids=["plainly", "graph"])
def test_several_on_their_way_are_in_order_and_bit_for_bit_those_of_run(
    install: Callable[[str], Any],
    engine_bundle: Callable[..., Bundle],
    rng: np.random.Generator,
    version: str,
    cuda_graph: bool,
) -> None:
    fake = install(version)
    small, large = (1, 256, 256), (2, 512, 512)
    batches = pictures(rng, [small, small, small, small, large, small, large, large, large, large, small])
    engine = TensorrtBackend(engine_bundle(), cuda_graph=cuda_graph)

    results = list(engine.run_many(iter(batches)))

    assert len(results) == len(batches)
    for batch, result in zip(batches, results, strict=True):
        np.testing.assert_array_equal(result, engine.run(batch))
    assert len(fake.contexts) == 1 + IN_FLIGHT, "a context for each that is on its way, and the one of `run`"
    assert (fake.cudart.fake_calls(b"cudaGraphLaunch") > 0) == cuda_graph
    engine.close()
    assert fake.cudart.fake_live() == 0


def test_the_next_is_under_way_before_the_first_is_waited_for(
    fake: Any, engine_bundle: Callable[..., Bundle], rng: np.random.Generator
) -> None:
    engine = TensorrtBackend(engine_bundle())
    fake.cudart.fake_order.restype = ctypes.c_char_p

    list(engine.run_many(pictures(rng, [(1, 256, 256)] * 5), in_flight=2))

    ran = [f"{stream}:{what}" for stream in "23232" for what in ("in", "net", "out")]  # stream 1 is that of `run`
    waits = ["2:wait", "3:wait", "2:wait", "3:wait", "2:wait"]
    expected = [*ran[:6], waits[0], *ran[6:9], waits[1], *ran[9:12], waits[2], *ran[12:], *waits[3:]]
    assert fake.cudart.fake_order().decode().split() == expected


def test_no_more_is_read_than_is_on_its_way(
    fake: Any, engine_bundle: Callable[..., Bundle], rng: np.random.Generator
) -> None:
    read = count()
    batches = (batch for batch in pictures(rng, [(1, 256, 256)] * 9) if next(read) >= 0)
    engine = TensorrtBackend(engine_bundle())

    results = engine.run_many(batches)
    next(results)

    assert next(read) == IN_FLIGHT
    results.close()  # type: ignore[attr-defined]  # it is a generator
    engine.close()
    assert fake.cudart.fake_live() == 0


@pytest.mark.parametrize("wrong", [0, 1, 4])
def test_an_error_comes_after_the_results_before_it(
    fake: Any, engine_bundle: Callable[..., Bundle], rng: np.random.Generator, wrong: int
) -> None:
    batches = pictures(rng, [(1, 256, 256)] * 6)
    batches[wrong] = np.zeros((1, 720, 1280, 3), np.uint8)
    engine = TensorrtBackend(engine_bundle())
    results = engine.run_many(batches)

    for batch in batches[:wrong]:
        np.testing.assert_array_equal(next(results), 255 - batch)
    with pytest.raises(EngineError, match=r"got \(1, 720, 1280\); rebuild .* --fp16 --engine-size 1280x720`"):
        next(results)

    engine.close()
    assert fake.cudart.fake_live() == 0


def test_a_source_that_breaks_loses_nothing_that_was_begun(
    fake: Any, engine_bundle: Callable[..., Bundle], rng: np.random.Generator
) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from pictures(rng, [(1, 256, 256)] * 2)
        raise SourceError("the cable is out")

    results = TensorrtBackend(engine_bundle()).run_many(broken())

    assert len([next(results), next(results)]) == 2
    with pytest.raises(SourceError, match="the cable is out"):
        next(results)


@pytest.mark.parametrize("call", ["cudaStreamCreateWithFlags", "cudaHostAlloc", "cudaMalloc", "cudaStreamSynchronize"])
def test_several_that_fail_leak_nothing(
    fake: Any, engine_bundle: Callable[..., Bundle], rng: np.random.Generator, call: str
) -> None:
    engine = TensorrtBackend(engine_bundle())
    fake.cudart.fake_fail(call.encode(), 2)

    with pytest.raises(EngineError, match=f"{call} failed: out of memory"):
        list(engine.run_many(pictures(rng, [(1, 256, 256)] * 4)))

    fake.cudart.fake_fail(b"", 0)
    engine.close()
    assert fake.cudart.fake_live() == 0


def test_a_backend_that_runs_one_at_a_time_gives_the_same(rng: np.random.Generator) -> None:
    class Negative:
        name = device = "negative"

        def run(self, images: np.ndarray) -> np.ndarray:
            return 255 - images

    batches = pictures(rng, [(1, 8, 8), (2, 4, 4)])

    for batch, result in zip(batches, run_many(Negative(), batches), strict=True):
        np.testing.assert_array_equal(result, 255 - batch)
    assert not isinstance(Negative(), Pipelined)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_layer_is_told_in_tensorrts_words_with_its_mean_time(
    install: Callable[[str], Any], engine_bundle: Callable[..., Bundle], version: str
) -> None:
    fake = install(version)

    stem, other, reformat = explain(engine_bundle(), runs=4)

    assert (stem.name, stem.kind, stem.inputs, stem.outputs) == ("stem", "CaskConvolution", ("Half",), ("Half",))
    assert (stem.tactic, stem.milliseconds) == ("sm80_xmma_fprop", 0.5)
    assert (other.name, other.kind, other.milliseconds) == ("a layer of which only the name is known", "", None)
    assert (reformat.name, reformat.kind, reformat.milliseconds) == ("reformat", "", 0.25), "only the profiler knows it"
    (context,) = fake.contexts
    assert fake.called("EngineInspector.execution_context =") == [(context,)]
    assert len(fake.called("IExecutionContext.profiler =")) == 1
    assert fake.called("IExecutionContext.set_input_shape") == [("image", (1, 256, 320, 3))]
    assert fake.cudart.fake_calls(b"cudaStreamBeginCapture") == 0
    assert fake.cudart.fake_live() == 0


@pytest.fixture
def rtx(install: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT for RTX on a GPU of compute capability 8.6, with an empty cache of kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fake = install(FAKE["RTX"])
    monkeypatch.setattr(Cuda, "compute_capability", lambda cuda: "8.6")
    return fake


def portable_engine(engine_bundle: Callable[..., Bundle], *capabilities: str, version: str = "1.7.1.116") -> Bundle:
    targets = Targets(compute_capabilities=capabilities or AMPERE_AND_NEWER, tensorrt=version, platform=this_platform())
    return engine_bundle(format="tensorrt-rtx", device=None, targets=targets, shapes=((1, 256, 256),) * 3)


def test_an_rtx_engine_captures_its_own_graphs_and_keeps_its_kernels(
    rtx: Any, engine_bundle: Callable[..., Bundle], rng: np.random.Generator
) -> None:
    bundle = portable_engine(engine_bundle)
    batches = pictures(rng, [(1, 256, 256)] * 4)

    engine = TensorrtBackend(bundle, edition=RTX)
    for batch in batches:
        np.testing.assert_array_equal(engine.run(batch), 255 - batch)

    assert (engine.name, engine.device, engine.note) == ("tensorrt-rtx 1.7.1.116 fp16", "Fake Orin", "")
    assert rtx.cudart.fake_calls(b"cudaStreamBeginCapture") == 0, "its own graphs, not one around them"
    strategy = rtx.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert rtx.called("IRuntimeConfig.cuda_graph_strategy =") == [(strategy,)]
    specialised = rtx.module.DynamicShapesKernelSpecializationStrategy
    assert rtx.called("IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy =") == [(specialised.EAGER,)]
    assert cache_file(this_device(RTX)).read_bytes() == b"kernels"
    assert len(rtx.called("IRuntimeCache.serialize")) == 1, "once for this shape"
    assert rtx.called("IRuntimeCache.deserialize") == []

    list(engine.run_many(batches))
    TensorrtBackend(bundle, edition=RTX)

    assert rtx.called("IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy =")[1:] == [
        *[(specialised.LAZY,)] * IN_FLIGHT, (specialised.EAGER,)
    ]  # fmt: skip
    assert rtx.called("IRuntimeCache.deserialize") == [(b"kernels",)], "the second start has them"
    assert len(rtx.called("Runtime.deserialize_cuda_engine")) == 2


def test_an_rtx_engine_of_another_version_is_built_again_from_its_graph(
    rtx: Any, engine_bundle: Callable[..., Bundle], tmp_path: Path, rng: np.random.Generator
) -> None:
    (tmp_path / "graph").write_bytes(b"graph")
    graph = Artifact(file="graph", format="onnx", precision="fp16", sha256=sha256(tmp_path / "graph"))
    bundle = portable_engine(engine_bundle, "8.6", version="1.6.0.1").with_artifact(graph)

    engine = TensorrtBackend(bundle, edition=RTX)

    assert re.search(r"was built by TensorRT for RTX 1\.6\.0\.1, .* again by 1\.7\.1\.116 in \d+\.\d s; ", engine.note)
    assert rtx.called("IBuilderConfig.set_compute_capability") == [(rtx.module.ComputeCapability.SM86, 0)]
    assert (tmp_path / "plan").read_bytes() == b"plan", "the bundle stays as it is"
    assert re.search(r"1\.6\.0\.1, .* again", " ".join(open_backend(bundle, engine="tensorrt-rtx").remarks)), (
        "it is said"
    )
    (batch,) = pictures(rng, [(1, 256, 256)])
    np.testing.assert_array_equal(engine.run(batch), 255 - batch)


@pytest.mark.parametrize(
    ("here", "sentence"),
    [
        (
            "7.5",
            r"plan was built for compute capability 8\.0, .*, 12\.0\+ on .*, but this is Fake Orin \(7\.5\)",
        ),
        ("9.0", r"TensorRT for RTX does not support compute capability 9\.0 \(Fake Orin\), TensorRT does"),
        ("8.7", r"TensorRT for RTX does not support compute capability 8\.7"),
    ],
)
def test_a_gpu_that_an_rtx_engine_is_not_for_is_a_sentence(
    rtx: Any, engine_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, here: str, sentence: str
) -> None:
    monkeypatch.setattr(Cuda, "compute_capability", lambda cuda: here)

    with pytest.raises(EngineError, match=sentence):
        TensorrtBackend(portable_engine(engine_bundle), edition=RTX)

    assert rtx.called("Runtime.deserialize_cuda_engine") == []


@pytest.mark.parametrize("here", ["8.0", "8.6", "12.0", "12.1", "13.0"])
def test_a_portable_rtx_engine_runs_on_ampere_and_newer(
    rtx: Any, engine_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    monkeypatch.setattr(Cuda, "compute_capability", lambda cuda: here)

    TensorrtBackend(portable_engine(engine_bundle), edition=RTX)


def test_an_rtx_edition_that_is_too_old_is_refused_with_the_command(rtx: Any) -> None:
    rtx.module.__version__ = "1.4.0.76"  # which does not know compute capability 12.1

    with pytest.raises(
        EngineError, match=r"1\.4\.0\.76 is too old, expected 1\.6 .*--upgrade 'cyclegan-edge\[tensorrt-rtx\]'"
    ):
        load(RTX)
