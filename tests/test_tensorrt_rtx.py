"""NVIDIA's own parser and builder on every graph that we write: TensorRT for RTX needs no GPU to build."""

import errno
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from typer.testing import CliRunner

from cyclegan_edge.backends.tensorrt.build import BuiltEngine, EngineConfig, build_engine
from cyclegan_edge.backends.tensorrt.library import AMPERE_AND_NEWER, RTX, load, this_platform, trt_log, trt_runtime
from cyclegan_edge.bundle import Artifact, Manifest, Source, read_bundle, write_manifest
from cyclegan_edge.cli import app
from cyclegan_edge.contract import GraphPrecision, Interface
from cyclegan_edge.errors import ConfigError, ExportError
from cyclegan_edge.export.formats.onnx import Graph, write_onnx
from cyclegan_edge.export.formats.tensorrt import add_engine
from cyclegan_edge.export.weights.generators import Architecture, ResnetArchitecture, UnetArchitecture, empty_generator
from cyclegan_edge.files import sha256
from cyclegan_edge.train.networks import GeneratorConfig, new_generator

pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT for RTX is not installed: `pip install 'cyclegan-edge[tensorrt-rtx]'`"
)

PRECISIONS: tuple[GraphPrecision, ...] = ("fp32", "fp16")
SHAPES = ((1, 64, 64), (1, 256, 456), (2, 512, 912))
PLAIN = ResnetArchitecture(down=(4, 8, 16), blocks=(16,), up=(8, 4))
OWN = {
    "9 blocks": GeneratorConfig(width=4),
    "6 blocks, doubled by resizing": GeneratorConfig(width=4, blocks=6, upsampling="resize"),
    "U-Net": GeneratorConfig(kind="unet_128", width=4),
    "compact": GeneratorConfig(kind="compact", width=8, blocks=2),
}
FOREIGN: dict[str, Architecture] = {
    "reference": PLAIN,
    "batch norm": replace(PLAIN, norm="batch"),
    "affine norm": replace(PLAIN, norm="affine"),
    "no norm": replace(PLAIN, norm="none"),
    "grey to colour": replace(PLAIN, inputs=1),
    "blurred (CUT)": replace(PLAIN, blurred_down=True, upsampling="blurred"),
    "resized": replace(PLAIN, upsampling="resized"),
    "zero padding": replace(PLAIN, padding="zero"),
    "replicate padding": replace(PLAIN, padding="replicate"),
    "separable (GAN Compression)": replace(PLAIN, blocks=(12,), separable=True),
    "U-Net with batch norm": UnetArchitecture(channels=(4, 8, 16), norm="batch"),
}


def generator_of(name: str) -> nn.Module:
    if name in OWN:
        return new_generator(OWN[name]).eval()
    generator = empty_generator(FOREIGN[name]).to_empty(device="cpu").eval()
    for values in (*generator.parameters(), *generator.buffers()):
        torch.nn.init.constant_(values, 0.01)
    return generator


def multiple_of(name: str) -> int:
    return OWN[name].multiple if name in OWN else FOREIGN[name].multiple


def built(path: Path, name: str = "reference", **options: Any) -> BuiltEngine:
    return build_engine(path, EngineConfig(**{"shapes": SHAPES, **options}), edition=RTX)


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, precision) for name in (*OWN, "reference") for precision in ("fp32", "fp16")),
     *((name, "fp16") for name in FOREIGN if name != "reference")],
)  # fmt: skip
def test_every_generator_is_built(tmp_path: Path, name: str, precision: GraphPrecision) -> None:
    multiple = multiple_of(name)
    graph = tmp_path / "generator.onnx"
    write_onnx(generator_of(name), graph, Graph(precision), multiple=multiple)
    side = -(-256 // multiple) * multiple

    engine = built(
        graph, precision=precision, shapes=((1, multiple * 2, multiple * 2), (1, side, side), (2, side, side))
    )

    assert len(engine.plan) > 50_000
    assert engine.device is None
    assert engine.targets is not None
    assert engine.targets.compute_capabilities == AMPERE_AND_NEWER
    assert (engine.targets.tensorrt, engine.targets.platform) == (load(RTX).__version__, this_platform())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("interface", ["bgr", "float"])
def test_graphs_of_other_interfaces_are_built(tmp_path: Path, interface: Interface, precision: GraphPrecision) -> None:
    graph = tmp_path / "generator.onnx"
    write_onnx(generator_of("reference"), graph, Graph(precision, interface))

    assert built(graph, precision=precision, interface=interface).plan


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_graphs_of_one_size_are_built(tmp_path: Path, precision: GraphPrecision) -> None:
    graph, size = tmp_path / "generator.onnx", (1, 256, 448)
    write_onnx(generator_of("reference"), graph, Graph(precision, fixed=size))

    assert built(graph, precision=precision, shapes=(size, size, size)).plan
    with pytest.raises(ExportError, match=r"takes only batches of \(1, 256, 448, 3\)"):
        built(graph, precision=precision)


@pytest.fixture(scope="module")
def half_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "generator-fp16.onnx"
    write_onnx(generator_of("reference"), path, Graph("fp16"))
    return path


@pytest.mark.parametrize("gpus", [("8.6", "8.9", "12.0"), ("7.5",)], ids=["named", "Turing"])
def test_gpus_that_are_named_are_built_for(half_graph: Path, gpus: tuple[str, ...]) -> None:
    engine = built(half_graph, gpus=gpus)

    assert engine.targets is not None
    assert engine.targets.compute_capabilities == gpus
    assert engine.plan != built(half_graph).plan


@pytest.mark.parametrize("gpu", ["9.0", "8.7", "11.0", "8", "Turing"])
def test_a_gpu_that_it_does_not_know_is_refused_with_those_that_it_does(half_graph: Path, gpu: str) -> None:
    with pytest.raises(ConfigError, match=rf"gpu is '{gpu}', .* 7\.5, 8\.0, 8\.6, 8\.9, 12\.0, 12\.1"):
        built(half_graph, gpus=(gpu,))


def test_the_graph_of_the_wrong_precision_is_refused(half_graph: Path) -> None:
    with pytest.raises(ExportError, match=r"generator-fp16.onnx is fp16, .* builds an fp32 engine from the fp32 graph"):
        built(half_graph, precision="fp32")


def test_a_graph_of_another_interface_is_refused_by_its_tensors(tmp_path: Path) -> None:
    graph = tmp_path / "generator.onnx"
    write_onnx(generator_of("reference"), graph, Graph("fp32", "float"))

    with pytest.raises(ExportError, match=r"has the tensors \['input', 'output'\], expected uint8 'image' in"):
        built(graph, precision="fp32")


def test_a_file_that_is_no_graph_is_refused_in_words_that_name_no_folder(tmp_path: Path) -> None:
    (tmp_path / "generator.onnx").write_bytes(b"no graph at all")

    with pytest.raises(ExportError, match=r"TensorRT for RTX [\d.]+ cannot read generator\.onnx \(") as refused:
        built(tmp_path / "generator.onnx")

    assert str(tmp_path) not in str(refused.value)


def foreign_graph(path: Path, *nodes: onnx.NodeProto, opset: int = 18) -> Path:
    """Pictures of uint8 (N, H, W, 3) through `nodes`, from "in" to "out", both (N, 3, H, W) float32."""
    shape: list[str | int | None] = ["n", "h", "w", 3]
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("image", "translated")]
    frame = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["in"], perm=[0, 3, 1, 2]),
        *nodes,
        helper.make_node("Transpose", ["out"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["last"], ["translated"], to=TensorProto.UINT8),
    ]
    constants = {"half": np.array([1, 1, 0.5, 0.5], np.float32), "kernel": np.ones((3, 3, 3, 3), np.float32)}
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(frame, "foreign", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Resize", ["in", "", "half"], ["out"], "shrink", mode="cubic", antialias=1),
         r'Resize shrink: .*"Antialiasing is not supported currently\."'),
        (helper.make_node("NoSuchThing", ["in"], ["out"], "strange"), r'NoSuchThing strange: .*"Plugin not found, are'),
    ],
    ids=["a layer that it lacks", "an operator that nobody has"],
)  # fmt: skip
def test_a_graph_that_it_cannot_read_is_refused_by_the_node(tmp_path: Path, node: onnx.NodeProto, words: str) -> None:
    with pytest.raises(ExportError, match=rf"TensorRT for RTX [\d.]+ cannot read foreign\.onnx \({words}.*\)\.$"):
        built(foreign_graph(tmp_path / "foreign.onnx", node), precision="fp32")


def test_a_graph_that_it_reads_and_cannot_build_is_refused_in_whole_words(tmp_path: Path) -> None:
    nodes = (
        helper.make_node("Cast", ["in"], ["brief"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["kernel"], ["brief_kernel"], to=TensorProto.BFLOAT16),
        helper.make_node("ConvTranspose", ["brief", "brief_kernel"], ["doubled"], "up", pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["doubled"], ["out"], to=TensorProto.FLOAT),
    )

    with pytest.raises(ExportError) as refused:
        built(foreign_graph(tmp_path / "foreign.onnx", *nodes, opset=22), precision="fp32")

    said = str(refused.value)
    assert re.match(r"TensorRT for RTX [\d.]+ could not build an engine from foreign\.onnx \(\S.*\)\.$", said)
    assert "Could not infer output types for operation" in said
    assert len(said) < 800
    assert str(tmp_path) not in said


def test_progress_is_told_by_phase_and_can_stop_the_build(half_graph: Path) -> None:
    told: list[tuple[str, int, int]] = []

    def go_on(*step: Any) -> bool:
        told.append(step)
        return True

    build_engine(half_graph, EngineConfig(shapes=SHAPES), edition=RTX, on_progress=go_on)

    assert ("Building engine", 0) in {(phase, done) for phase, done, _ in told}
    assert len({phase for phase, *_ in told}) > 3
    with pytest.raises(ExportError, match=r"generator-fp16.onnx was not built: it was stopped"):
        build_engine(half_graph, EngineConfig(shapes=SHAPES), edition=RTX, on_progress=lambda *_: False)


def test_ctrl_c_stops_a_real_build(half_graph: Path) -> None:
    program = [sys.executable, str(Path(__file__).parent / "data" / "tensorrt_rtx_ctrl_c.py"), str(half_graph)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"

        process.send_signal(signal.SIGINT)

        assert process.stdout.read() == "KeyboardInterrupt\n"


@pytest.mark.parametrize(
    ("damage", "words"), [("truncated", "plan.header.size == blobSize"), ("junk", "kEXPECTED_MAGIC_TAG")]
)
def test_what_the_runtime_says_of_a_damaged_plan_is_a_sentence(half_graph: Path, damage: str, words: str) -> None:
    trt = load(RTX)
    plan = built(half_graph).plan

    opened = trt_runtime(trt).deserialize_cuda_engine(plan[: len(plan) // 2] if damage == "truncated" else b"x" * 1000)

    assert opened is None
    assert words in trt_log(trt).reason()


def test_export_builds_it_without_a_gpu_and_says_what_was_not_compared(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["export", *words])
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    said = run(str(tiny_checkpoint.parent.parent), "--fp16", "--name", "tiny", "--compare", "1", "--gpu", "8.6,12.0")

    engine = read_bundle(Path("models/tiny")).artifact("tensorrt-rtx", "fp16")
    assert engine is not None
    assert engine.targets is not None
    assert engine.targets.compute_capabilities == ("8.6", "12.0")
    assert engine.parity is None
    assert "generator-fp16-rtx.engine cannot run here" in said
    assert "type `cyclegan-edge verify` where it will run" in said
    table = run("models/tiny", "--explain")
    assert re.search(r"CONVOLUTION HALF HALF \d+", table)
    assert re.search(r"NORMALIZATION FLOAT FLOAT \d+", table), "norms stay in float32"
    assert "As TensorRT for RTX reads generator-fp16.onnx" in table
    assert "dB from PyTorch on 1 pictures" in table


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def bundle_folder(half_graph: Path, tmp_path: Path) -> Path:
    """A bundle that holds both graphs."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    shutil.copy(half_graph, folder)
    write_onnx(generator_of("reference"), folder / "generator-fp32.onnx")
    graphs = tuple(
        Artifact(file=file, format="onnx", precision=precision, sha256=sha256(folder / file))
        for precision in PRECISIONS
        if (file := f"generator-{precision}.onnx")
    )
    source = Source(file="step-1.pt", sha256="0" * 64, step=1)
    write_manifest(
        folder, Manifest(name="tiny", direction="ab", size=64, architecture={}, source=source, artifacts=graphs)
    )
    return folder


def test_a_build_that_is_stopped_leaves_the_bundle_as_it_was(bundle_folder: Path) -> None:
    before = held(bundle_folder)

    with pytest.raises(ExportError, match="was not built: it was stopped"):
        add_engine(bundle_folder, RTX, shapes=SHAPES, on_progress=lambda *_: False)

    assert held(bundle_folder) == before


def test_a_disk_that_is_full_when_the_engine_is_built_leaves_the_bundle_as_it_was(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = held(bundle_folder)
    monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(ExportError, match=r"No space left on device") as refused:
        add_engine(bundle_folder, RTX, shapes=SHAPES)

    assert "\n" not in str(refused.value)
    assert held(bundle_folder) == before


def test_without_a_driver_opening_says_that_the_driver_is_missing(half_graph: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    trt = load(RTX)

    assert trt_runtime(trt).deserialize_cuda_engine(built(half_graph).plan) is None

    assert "CUDA driver version is insufficient" in trt_log(trt).reason()
