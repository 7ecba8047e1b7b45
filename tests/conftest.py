"""What several test modules share: numbers, real pictures where there are any, small models, a fake TensorRT."""

import ctypes
import io
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cyclegan_edge.backends.cuda import Cuda
from cyclegan_edge.backends.tensorrt import library as tensorrt_library
from cyclegan_edge.backends.tensorrt import plan
from cyclegan_edge.bundle import Artifact, Bundle, Manifest, Source, write_manifest
from cyclegan_edge.contract import Batch, Translate
from cyclegan_edge.files import sha256
from cyclegan_edge.images import write_image

if TYPE_CHECKING:
    from cyclegan_edge.train.networks import ResnetGenerator


def pytest_configure() -> None:
    """One thread for the tiny networks of the tests: two that wait for each other lose when the machine is busy.

    And engine="auto" measures nothing, but in the tests of that.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["CYCLEGAN_EDGE_MEASURE"] = "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two warnings of torch's own do not fail tests marked `gpu`, in which torch.compile raises them for any network.

    It imports modules that use the deprecated torch.jit.script_method, and looks for the gradient of every input of a
    network, also of a translated picture, which is no leaf.
    """
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.filterwarnings("ignore:`torch.jit.script_method`"))
            item.add_marker(pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` or `tensorrt` skip aloud on a machine without."""
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
    if item.get_closest_marker("tensorrt"):
        pytest.importorskip("tensorrt")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real pictures that CYCLEGAN_EDGE_TEST_DATA names: photos/, clips/, horse2zebra/."""
    folder = os.environ.get("CYCLEGAN_EDGE_TEST_DATA")
    if not folder:
        pytest.skip("CYCLEGAN_EDGE_TEST_DATA does not name a folder of real pictures")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of small networks of 32 px before their first step; its data are rendered landscapes of 48 px."""
    import torch

    from cyclegan_edge.scenes import write_dataset
    from cyclegan_edge.settings import load_settings
    from cyclegan_edge.train.checkpoint import save_checkpoint
    from cyclegan_edge.train.config import TrainConfig
    from cyclegan_edge.train.state import new_state

    place = tmp_path_factory.mktemp("tiny")
    for _ in write_dataset(place / "scenes", train=2, test=4, size=48):
        pass
    settings = ["size=32", "generator.width=4", "generator.blocks=1", "discriminator.width=4", "device=cpu"]
    config = load_settings(TrainConfig, None, settings, overrides={"data": str(place / "scenes")})
    return save_checkpoint(place / "runs" / "tiny", config, new_state(config, torch.device("cpu")))


@pytest.fixture
def two_domains(tmp_path: Path, rng: np.random.Generator) -> Path:
    """trainA/ with five dark pictures, trainB/ with three bright ones, all of different shapes."""
    for domain, pictures, offset in (("trainA", 5, 0), ("trainB", 3, 128)):
        (tmp_path / domain).mkdir()
        for number in range(pictures):
            picture = rng.integers(offset, offset + 128, (40 + number, 50, 3), dtype=np.uint8)
            write_image(tmp_path / domain / f"{number}.png", picture)
    return tmp_path


@pytest.fixture
def write_tar() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """Writes a tar file of these names and contents."""

    def write(path: Path, contents: Mapping[str, bytes]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """An exported model whose generator is `tiny_translated`: each channel and each column changes in its way."""
    folder = tmp_path / "models" / "negative"
    folder.mkdir(parents=True)
    artifacts = []
    for precision in ("fp32", "fp16"):
        path = folder / f"generator-{precision}.onnx"
        onnx.save(tiny_graph(), path)
        artifacts.append(Artifact(file=path.name, format="onnx", precision=precision, sha256=sha256(path)))
    manifest = Manifest(
        name="negative",
        direction="ab",
        size=32,
        architecture={"kind": "negative"},
        source=Source(file="step-1.pt", sha256="0" * 64, step=1),
        artifacts=tuple(artifacts),
        versions={"onnx": onnx.__version__},
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="session")
def generator() -> "ResnetGenerator":
    """A small generator whose pictures use most of the range."""
    torch = pytest.importorskip("torch")
    from cyclegan_edge.train.networks import GeneratorConfig, ResnetGenerator, init_weights

    generator = ResnetGenerator(GeneratorConfig(width=8, blocks=2)).eval()
    init_weights(generator, torch.Generator().manual_seed(0))
    with torch.no_grad():
        generator.get_parameter(f"model.{len(generator.model) - 2}.weight").mul_(8)
    return generator


@pytest.fixture(scope="session")
def exported(generator: "ResnetGenerator", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`generator` as a bundle with its float32 ONNX graph; read-only, copy it before anything is added."""
    from cyclegan_edge.export.formats.onnx import write_onnx

    folder = tmp_path_factory.mktemp("models") / "small"
    folder.mkdir()
    path = folder / "generator-fp32.onnx"
    write_onnx(generator, path)
    artifact = Artifact(file=path.name, format="onnx", precision="fp32", sha256=sha256(path))
    write_manifest(
        folder,
        Manifest(
            name="small",
            direction="ab",
            size=32,
            architecture={"generator": "resnet", "width": 8, "blocks": 2},
            source=Source(file="step-1.pt", sha256="0" * 64, step=1),
            artifacts=(artifact,),
        ),
    )
    return folder


@pytest.fixture
def wrong_half(generator: "ResnetGenerator", monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-precision graphs are those of another generator."""
    from cyclegan_edge.export.formats import onnx as onnx_format
    from cyclegan_edge.export.formats.onnx import Graph, write_onnx

    def write(wanted: Any, path: Path, graph: Graph, **_: object) -> None:
        write_onnx(generator if graph.precision == "fp16" else wanted, path, graph)

    monkeypatch.setattr(onnx_format, "write_onnx", write)


@pytest.fixture
def other_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """No graph gives the pictures that PyTorch is said to give."""
    from cyclegan_edge.train.evaluate.picture_generator import translate_with

    monkeypatch.setattr(
        "cyclegan_edge.train.evaluate.picture_generator.translate_with",
        lambda generator: lambda images: 255 - translate_with(generator)(images),
    )


@pytest.fixture(scope="session")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/fake_cudart.c as a library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    path = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    source = Path(__file__).parent / "data" / "fake_cudart.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", path, source], check=True)
    return path


@pytest.fixture
def install(cudart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Makes `import tensorrt` give the fake of a version, data/fake_tensorrt.py."""
    numbers = count()
    made = runpy.run_path(str(Path(__file__).parent / "data" / "fake_tensorrt.py"))

    def installed(version: str) -> Any:
        library = str(shutil.copy(cudart, tmp_path / f"libcudart-{next(numbers)}.so"))  # never over a loaded one
        fake = made["Fake"](version, ctypes.CDLL(library))
        rtx = version == made["RTX"]
        monkeypatch.setitem(sys.modules, "tensorrt", None if rtx else fake.module)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake.module if rtx else None)
        cuda = Cuda(library, driver=library)
        for module in (tensorrt_library, plan):
            monkeypatch.setattr(module, "load_cuda", lambda: cuda)
        return fake

    return installed


@pytest.fixture
def fake(install: Callable[[str], Any]) -> Any:
    """The oldest TensorRT that we support."""
    return install("10.3.0")


@pytest.fixture
def engine_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """Makes a bundle with an engine that the fake TensorRT opens, its artifact changed as told."""

    def make(**changed: Any) -> Bundle:
        (tmp_path / "plan").write_bytes(b"plan")
        artifact = Artifact(file="plan", format="tensorrt", precision="fp16", sha256=sha256(tmp_path / "plan"))
        if "device" not in changed:
            changed["device"] = tensorrt_library.this_device()
        artifact = replace(artifact, **changed)
        source = Source(file="checkpoint.pt", sha256="0", step=1)
        manifest = Manifest(name="x", direction="ab", size=256, architecture={}, source=source, artifacts=(artifact,))
        return Bundle(tmp_path, manifest)

    return make


SCALE, OFFSET = (-0.5, 0.25, 0.5), (220.0, 10.0, 90.0)  # of red, green and blue
COLUMNS = 32  # that the ramp from left to right has


def tiny_graph() -> onnx.ModelProto:
    """A small graph with the interface of an exported generator, which gives away mixed-up channels and columns."""
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    numbers: dict[str, Any] = {"scale": SCALE, "offset": OFFSET, "columns": COLUMNS, "zero": 0, "one": 1}
    nodes = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node("CumSum", ["ones", "axis"], ["column"], exclusive=1),
        helper.make_node("Mod", ["column", "columns"], ["ramp"], fmod=1),
        helper.make_node("Mul", ["wide", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["shifted"]),
        helper.make_node("Add", ["shifted", "ramp"], ["levels"]),
        helper.make_node("Floor", ["levels"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["translated"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("translated", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in numbers.items()]
        + [numpy_helper.from_array(np.array(2, np.int64), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def tiny_translated() -> Translate:
    """What the generator of `tiny_bundle` makes of uint8 (N, H, W, 3) pictures."""

    def translate(images: Batch) -> Batch:
        ramp = np.arange(images.shape[2])[:, np.newaxis] % COLUMNS
        translated: Batch = np.floor(images * np.array(SCALE) + np.array(OFFSET) + ramp).astype(np.uint8)
        return translated

    return translate
