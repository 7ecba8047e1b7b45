"""backends/cuda.py over a libcudart made of host memory, and over the real one where there is no GPU."""

import contextlib
import ctypes
import gc
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from cyclegan_edge.backends import cuda as module
from cyclegan_edge.backends.cuda import Cuda, DeviceBuffer, PinnedBuffer, Stream
from cyclegan_edge.errors import EngineError

SOURCE = Path(__file__).parent / "data" / "fake_cudart.c"
NBYTES = 12


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A fresh copy: its counters start at nothing."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    path = tmp_path / "libcudart.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", path, SOURCE], check=True)
    return path


@pytest.fixture
def fake(library: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(library))


@pytest.fixture
def cuda(library: Path, fake: ctypes.CDLL) -> Cuda:
    return Cuda(str(library), driver=str(library))


class Loop(NamedTuple):
    """Host memory, a device's, and host memory again."""

    stream: Stream
    sent: np.ndarray
    received: np.ndarray
    enqueue: Callable[[], None]  # what lies in `sent` then goes through the device into `received`


@contextlib.contextmanager
def open_loop(cuda: Cuda, nbytes: int) -> Iterator[Loop]:
    with (
        Stream(cuda) as stream,
        PinnedBuffer(cuda, nbytes) as sent,
        PinnedBuffer(cuda, nbytes) as received,
        DeviceBuffer(cuda, nbytes) as device,
    ):

        def enqueue() -> None:
            stream.copy_to_device(device, sent, nbytes)
            stream.copy_to_host(received, device, nbytes)

        yield Loop(stream, sent.array, received.array, enqueue)


def round_trip(cuda: Cuda) -> np.ndarray:
    """0, 1, 2, ... through the device and back: plainly, then again from a graph."""
    with open_loop(cuda, NBYTES) as loop:
        loop.sent[:] = np.arange(NBYTES)
        loop.enqueue()
        loop.stream.synchronize()
        plain = loop.received.copy()
        with loop.stream.capture(loop.enqueue) as graph:
            loop.sent[:] += 1
            graph.launch(loop.stream)
            loop.stream.synchronize()
        difference: np.ndarray = loop.received - plain
        return difference


def test_what_goes_to_the_device_comes_back_and_everything_is_freed_once(cuda: Cuda, fake: ctypes.CDLL) -> None:
    difference = round_trip(cuda)

    np.testing.assert_array_equal(difference, np.ones(NBYTES, np.uint8))
    assert fake.fake_live() == 0
    assert fake.fake_calls(b"cudaFree") == 1
    assert fake.fake_calls(b"cudaFreeHost") == 2
    assert fake.fake_calls(b"cudaGraphDestroy") == 1


@pytest.mark.parametrize(
    "name",
    [
        "cudaMalloc",
        "cudaHostAlloc",
        "cudaStreamCreateWithFlags",
        "cudaMemcpyAsync",
        "cudaStreamSynchronize",
        "cudaStreamBeginCapture",
        "cudaStreamEndCapture",
        "cudaGraphInstantiateWithFlags",
        "cudaGraphLaunch",
    ],
)
def test_every_failing_call_is_a_sentence_and_leaks_nothing(cuda: Cuda, fake: ctypes.CDLL, name: str) -> None:
    fake.fake_fail(name.encode(), 719)

    with pytest.raises(EngineError, match=rf"^CUDA's {name} failed: a made-up reason \(error 719\)\.$"):
        round_trip(cuda)

    assert fake.fake_live() == 0
    assert fake.cudaGetLastError() == 0, "the next library that asks would be blamed"


@pytest.mark.parametrize(
    "name", ["cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaGraphDestroy", "cudaGraphExecDestroy"]
)
def test_a_failing_release_is_a_sentence_too(cuda: Cuda, fake: ctypes.CDLL, name: str) -> None:
    fake.fake_fail(name.encode(), 719)

    with pytest.raises(EngineError, match=f"^CUDA's {name} failed"):
        round_trip(cuda)


def test_full_memory_says_what_to_do(cuda: Cuda, fake: ctypes.CDLL) -> None:
    fake.fake_fail(b"cudaMalloc", 2)

    with pytest.raises(EngineError, match=r"out of memory \(error 2\); close other programs on the GPU"):
        DeviceBuffer(cuda, NBYTES)


def test_a_buffer_is_freed_once_whether_closed_or_forgotten(cuda: Cuda, fake: ctypes.CDLL) -> None:
    gc.collect()  # what other tests forgot
    before = fake.fake_calls(b"cudaFree")
    closed, forgotten = DeviceBuffer(cuda, NBYTES), DeviceBuffer(cuda, NBYTES)

    closed.close()
    closed.close()
    del closed, forgotten
    gc.collect()

    assert fake.fake_live() == 0
    assert fake.fake_calls(b"cudaFree") == before + 2


def test_a_capture_that_fails_halfway_leaves_the_stream_usable(cuda: Cuda, fake: ctypes.CDLL) -> None:
    def enqueue() -> None:
        raise EngineError("the network refused")

    with Stream(cuda) as stream:
        with pytest.raises(EngineError, match="the network refused"):
            stream.capture(enqueue)
        stream.capture(lambda: None).close()

    assert fake.fake_live() == 0


def test_the_device_is_named_by_the_driver_and_the_runtime(cuda: Cuda) -> None:
    assert (cuda.device_count(), cuda.device_name(0), cuda.compute_capability(0)) == (1, "Fake Orin", "8.7")
    with pytest.raises(EngineError, match="cudaDeviceGetAttribute failed"):
        cuda.compute_capability(1)


@pytest.mark.parametrize("name", ["cuInit", "cuDeviceGet", "cuDeviceGetName"])
def test_a_failing_driver_is_a_sentence(cuda: Cuda, fake: ctypes.CDLL, name: str) -> None:
    fake.fake_fail(name.encode(), 100)

    with pytest.raises(EngineError, match=rf"{name} failed \(error 100\); does `nvidia-smi` list a GPU"):
        cuda.device_name()


def test_a_missing_driver_is_a_sentence(library: Path) -> None:
    with pytest.raises(EngineError, match=r"The NVIDIA driver cannot be loaded \(.*no-driver"):
        Cuda(str(library), driver="libno-driver.so.1").device_name()


@pytest.fixture
def candidates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[str]], None]]:
    module.load_cuda.cache_clear()
    yield lambda paths: monkeypatch.setattr(module, "_candidates", lambda: paths)
    module.load_cuda.cache_clear()


def test_no_runtime_anywhere_says_where_it_comes_from(candidates: Callable[[list[str]], None]) -> None:
    candidates(["libno-cudart.so.13"])

    with pytest.raises(EngineError, match=r"no CUDA runtime here .*pip install 'cyclegan-edge\[tensorrt\]'.*JetPack"):
        module.load_cuda()


def test_a_runtime_too_new_for_the_driver_is_passed_over(
    candidates: Callable[[list[str]], None], library: Path, fake: ctypes.CDLL, tmp_path: Path
) -> None:
    older = shutil.copy(library, tmp_path / "older.so")
    fake.fake_fail(b"cudaGetDeviceCount", 35)
    candidates([str(library), str(older)])

    DeviceBuffer(module.load_cuda(), NBYTES).close()

    assert fake.fake_calls(b"cudaMalloc") == 0
    assert ctypes.CDLL(str(older)).fake_calls(b"cudaMalloc") == 1


def test_only_a_runtime_too_new_for_the_driver_says_so(
    candidates: Callable[[list[str]], None], library: Path, fake: ctypes.CDLL
) -> None:
    fake.fake_fail(b"cudaGetDeviceCount", 35)
    candidates([str(library)])

    with pytest.raises(EngineError, match=r"error 35\); install or update the NVIDIA driver"):
        module.load_cuda()


def test_the_real_runtime_without_a_gpu_answers_in_its_own_words() -> None:
    package = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    found = [path for folder in folders for path in folder.glob("*/lib/libcudart.so.*")]
    if not found:
        pytest.skip("needs pip's nvidia-cuda-runtime")
    cuda = Cuda(str(found[0]))
    if cuda.attempt("cudaGetDeviceCount", ctypes.byref(ctypes.c_int())) == 0:
        pytest.skip("needs a machine without a GPU")

    for deed in (lambda: DeviceBuffer(cuda, 4), lambda: PinnedBuffer(cuda, 4), lambda: Stream(cuda)):
        with pytest.raises(EngineError, match=r"^CUDA's \w+ failed: .*(driver|device)"):
            deed()


@pytest.mark.gpu
def test_on_a_gpu_bytes_come_back_plainly_and_from_a_graph() -> None:
    np.testing.assert_array_equal(round_trip(module.load_cuda()), np.ones(NBYTES, np.uint8))


@pytest.mark.gpu
def test_on_a_gpu_a_graph_reads_what_lies_in_its_memory_when_it_is_launched() -> None:
    cuda, nbytes = module.load_cuda(), 3 * 256 * 448
    rng = np.random.default_rng(0)
    with open_loop(cuda, nbytes) as loop, loop.stream.capture(loop.enqueue) as graph:
        for _ in range(5):
            loop.sent[:] = rng.integers(0, 256, nbytes)
            graph.launch(loop.stream)
            loop.stream.synchronize()
            np.testing.assert_array_equal(loop.received, loop.sent)


@pytest.mark.gpu
def test_on_a_gpu_two_streams_copy_at_once_and_mix_nothing_up() -> None:
    cuda, nbytes = module.load_cuda(), 1 << 22
    with open_loop(cuda, nbytes) as one, open_loop(cuda, nbytes) as other:
        one.sent[:], other.sent[:] = 1, 2
        for _ in range(10):
            one.enqueue()
            other.enqueue()
        one.stream.synchronize()
        other.stream.synchronize()

        assert (one.received == 1).all()
        assert (other.received == 2).all()


@pytest.mark.gpu
def test_on_a_gpu_memory_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(EngineError, match=r"cudaMalloc failed: .*; close other programs on the GPU or use a smaller"):
        DeviceBuffer(module.load_cuda(), 1 << 45)


@pytest.mark.gpu
def test_on_a_gpu_the_device_says_what_it_is() -> None:
    cuda = module.load_cuda()

    assert cuda.device_name()
    assert float(cuda.compute_capability()) >= 5
