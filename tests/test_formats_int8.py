"""The int8 graph: what is quantised and what is not, how exact it stays, and how it is refused."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.bounds import BOUNDS, measure, pairs_of
from cyclegan_edge.bundle import Bound, Bundle, read_bundle, write_manifest
from cyclegan_edge.cli import app
from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import ConfigError, DataError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.formats import int8
from cyclegan_edge.export.formats.int8 import FILE, Seen, calibrate, inner, int8_target, load_calibration, quantised
from cyclegan_edge.export.parity import Verdict, ort_runner, render_pictures
from cyclegan_edge.export.pipeline import add_to_bundle
from cyclegan_edge.export.verify_bundle import verify_bundle
from cyclegan_edge.files import sha256
from cyclegan_edge.images import write_image

LOOSE = Bound(max_levels=255, least_psnr_db=0, least_ssim=-1)
INSIDE = [
    "Conv",
    "Conv",
    "Conv",
    "Conv",
    "Conv",
    "Conv",
    "ConvTranspose",
    "ConvTranspose",
]  # of `generator`, all but two


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty landscapes."""
    for number, picture in enumerate(render_pictures(32, 20)):
        write_image(tmp_path / "pictures" / f"{number:02}.png", picture)
    return tmp_path / "pictures"


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Bundle:
    """`exported` with a last layer that does not enlarge every error eight times."""
    folder = shutil.copytree(exported, tmp_path / "small")
    path = folder / "generator-fp32.onnx"
    model = onnx.load(path)
    last = [node.input[1] for node in model.graph.node if node.op_type == "Conv"][-1]
    (weight,) = (it for it in model.graph.initializer if it.name == last)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) / 8, last))
    onnx.save(model, path)
    found = read_bundle(folder)
    (artifact,) = found.manifest.artifacts
    bundle = found.with_artifact(replace(artifact, sha256=sha256(path), bytes=path.stat().st_size))
    write_manifest(folder, bundle.manifest)
    return bundle


@pytest.fixture
def graph(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(bundle.folder / "generator-fp32.onnx")


def decibels(bundle: Bundle, made: onnx.ModelProto, pictures: list[Picture]) -> float:
    """How far the graph is from the float32 graph of the bundle."""
    path = bundle.folder / "made.onnx"
    onnx.save(made, path)
    exact = open_backend(bundle, engine="onnxruntime").backend
    return measure(ort_runner(path), pairs_of(exact.run, pictures), bound=LOOSE).psnr_db


def test_the_range_reaches_from_the_least_to_the_largest_value_and_holds_zero() -> None:
    seen = Seen()
    values = np.zeros((1, 4, 100, 100), np.float32)
    values[0, 1, 50, 3], values[0, 2, 7, 9] = 300.0, -20.0  # one of forty thousand each

    seen.add(values)
    found, _ = seen.range()

    assert found.restored(np.array([0.0]))[0] == 0.0
    np.testing.assert_allclose(found.restored(np.array([300.0, -20.0])), [300.0, -20.0], atol=320 / 255)


def test_what_was_seen_first_is_kept_when_the_histogram_grows(rng: np.random.Generator) -> None:
    seen = Seen()
    for scale in (0.5, 40.0):
        seen.add(scale * rng.standard_normal((1, 4, 32, 32), np.float32))

    found, ratio = seen.range()

    assert float(found.scale) * 255 == pytest.approx(40 * 7, rel=0.3)
    assert 30 < ratio < 50


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_generator_that_gives_no_finite_values_is_refused(value: float) -> None:
    with pytest.raises(ExportError, match="not finite, so it has no range"):
        Seen().add(np.full((1, 1, 4, 4), value, np.float32))


def test_all_but_the_first_and_the_last_convolution_is_int8(graph: onnx.ModelProto) -> None:
    made, layers = quantised(graph, *calibrate(graph, render_pictures(32)), least_db=0.0)

    onnx.checker.check_model(made, full_check=True)
    makers = {name: node for node in made.graph.node for name in node.output}
    convolutions = [it for it in made.graph.node if it.op_type in ("Conv", "ConvTranspose")]
    whole = [
        {makers[name].op_type for name in it.input[:2] if name in makers} == {"DequantizeLinear"} for it in convolutions
    ]
    assert whole == [False, *[True] * len(INSIDE), False]
    assert [layer.operator for layer in layers] == INSIDE
    norms = [it for it in made.graph.node if it.op_type == "InstanceNormalization"]
    assert len(norms) == len(convolutions) - 1
    types = {it.name: it.data_type for it in made.graph.initializer}
    assert {types[f"{it.output[0]}.weight.whole"] for it in inner(graph)} == {TensorProto.INT8}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_both_engines_stay_within_the_bound_on_other_pictures(engine: EngineName, bundle: Bundle, folder: Path) -> None:
    pytest.importorskip(engine)
    exact = open_backend(bundle, engine="onnxruntime").backend
    grown = add_to_bundle(bundle, [int8_target(load_calibration(folder, 32), exact.run)])

    backend = open_backend(grown, engine=engine, precision="int8").backend

    others = render_pictures(32, 30)[20:]
    parity = measure(backend.run, pairs_of(exact.run, others), bound=BOUNDS["int8"])
    assert parity.psnr_db >= BOUNDS["int8"].least_psnr_db
    assert backend.name.endswith(" int8")
    assert (bundle.folder / FILE).stat().st_size < (bundle.folder / "generator-fp32.onnx").stat().st_size


def test_channels_that_differ_a_thousandfold_in_front_of_a_norm_lose_nothing(
    bundle: Bundle, graph: onnx.ModelProto, rng: np.random.Generator
) -> None:
    pictures = render_pictures(32, 6)
    plain, _ = quantised(graph, *calibrate(graph, pictures), least_db=0.0)
    for node in inner(graph):
        if node.op_type == "Conv":
            (weight,) = (it for it in graph.graph.initializer if it.name == node.input[1])
            values = numpy_helper.to_array(weight)
            factors = 10 ** rng.uniform(0, 3, (len(values), 1, 1, 1)).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values * factors, weight.name))

    uneven, _ = quantised(graph, *calibrate(graph, pictures), least_db=0.0)

    assert decibels(bundle, uneven, pictures) == pytest.approx(decibels(bundle, plain, pictures), abs=2.0)


def test_biases_and_grouped_convolutions_keep_their_meaning(rng: np.random.Generator, tmp_path: Path) -> None:
    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    constants = [weight("a.weight", 4, 3, 3, 3), weight("b.weight", 8, 4, 3, 3), weight("b.bias", 8)]
    constants += [weight("c.weight", 8, 1, 3, 3), weight("d.weight", 8, 2, 3, 3), weight("e.weight", 3, 4, 3, 3)]
    pads: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "a.weight"], ["a"], **pads),
        helper.make_node("Conv", ["a", "b.weight", "b.bias"], ["b"], **pads),
        helper.make_node("Conv", ["b", "c.weight"], ["c"], group=8, **pads),
        helper.make_node("ConvTranspose", ["c", "d.weight"], ["d"], group=2, **pads),
        helper.make_node("Conv", ["d", "e.weight"], ["e"], **pads),
    ]
    entry = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 32, 32, 3])
    result = helper.make_tensor_value_info("e", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "biased", [entry], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    pictures = render_pictures(32, 4)

    made, layers = quantised(model, *calibrate(model, pictures), least_db=0.0)

    assert [layer.layer for layer in layers] == ["b", "c"]  # no scale per output channel for a grouped transposed one
    (exact,) = int8.watched(model, ["d"], pictures[:1])
    (found,) = int8.watched(made, ["d"], pictures[:1])
    error = np.square(exact["d"] - found["d"]).mean() / np.square(exact["d"]).mean()
    assert error < 1e-3


def test_layers_that_eight_bits_cost_too_much_stay_float32(graph: onnx.ModelProto) -> None:
    calibrated = calibrate(graph, render_pictures(32, 6))
    _, every = quantised(graph, *calibrated, least_db=0.0)
    ratios = sorted(min(layer.entry_db, layer.weight_db) for layer in every)

    _, layers = quantised(graph, *calibrated, least_db=ratios[3])

    assert [layer.int8 for layer in layers] == [min(it.entry_db, it.weight_db) >= ratios[3] for it in every]
    assert sum(layer.int8 for layer in layers) == len(INSIDE) - 3


def test_as_few_layers_as_the_bound_allows_stay_float32(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    real = int8.quantised

    def recording(*arguments: Any, least_db: float) -> Any:
        tried.append(least_db)
        return real(*arguments, least_db=least_db)

    monkeypatch.setattr(int8, "quantised", recording)
    exact = open_backend(bundle, engine="onnxruntime").backend
    target = int8_target(load_calibration(folder, 32), exact.run)
    answers: Iterator[list[str]] = iter([["too far"], ["too far"], []])
    monkeypatch.setattr(int8, "out_of_bounds", lambda parity: next(answers))

    target.make(bundle, bundle.folder)

    assert tried == list(int8._LEAST_DB[:3])


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that nothing in eight bits meets."""
    monkeypatch.setitem(BOUNDS, "int8", replace(BOUNDS["int8"], least_psnr_db=90.0))


@pytest.mark.usefixtures("strict")
def test_what_is_out_of_bounds_is_not_kept_and_its_layers_are_told(bundle: Bundle, folder: Path) -> None:
    verdicts: list[Verdict] = []
    exact = open_backend(bundle, engine="onnxruntime").backend

    grown = add_to_bundle(bundle, [int8_target(load_calibration(folder, 32), exact.run)], verdicts.append)

    assert grown == bundle
    assert not (bundle.folder / FILE).exists()
    (verdict,) = verdicts
    assert verdict.outcome == "failed"
    assert "dB from PyTorch, expected at least 90" in verdict.reason
    assert [layer.operator for layer in verdict.layers] == INSIDE


@pytest.mark.usefixtures("strict")
def test_the_command_prints_the_layers_of_what_it_refuses(bundle: Bundle, folder: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(bundle.folder), "--int8", "--calibrate", str(folder)])

    assert isinstance(result.exception, ExportError)
    assert "ConvTranspose" in result.output
    assert " dB " in result.output


def test_a_network_of_which_no_layer_bears_it_is_refused(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_LEAST_DB", (99.0,))
    exact = open_backend(bundle, engine="onnxruntime").backend

    with pytest.raises(ExportError, match=r"No layer of .* bears 8 bits within the bound"):
        add_to_bundle(bundle, [int8_target(load_calibration(folder, 32), exact.run)])


def test_a_bundle_gets_it_later(bundle: Bundle, folder: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(bundle.folder), "--int8", "--calibrate", str(folder)])

    assert result.exit_code == 0, result.output
    held = read_bundle(bundle.folder).artifact("onnx", "int8")
    assert held is not None
    assert held.parity is not None
    assert held.parity.bound == BOUNDS["int8"]


def test_an_export_makes_it_from_a_checkpoint_and_verify_compares_it(
    tiny_checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    from cyclegan_edge.export.pipeline import export_checkpoint

    made = export_checkpoint(tiny_checkpoint, tmp_path / "model", ExportConfig(int8=True, calibrate=folder, compare=2))

    verdicts = list(verify_bundle(made, precision="int8"))
    assert made.artifact("onnx", "int8") is not None
    assert {it.engine.split()[0]: it.outcome for it in verdicts} == {"openvino": "good", "onnxruntime": "good"}


def test_too_few_pictures_are_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(DataError, match="holds 4 pictures, but the ranges of int8"):
        load_calibration(tiny_checkpoint.parents[3] / "scenes" / "testA", 32)


@pytest.mark.parametrize("missing", [None, Path("nowhere")])
def test_without_pictures_to_calibrate_on_it_says_which_option_names_them(missing: Path | None) -> None:
    with pytest.raises(ConfigError, match="name a folder with --calibrate"):
        load_calibration(missing, 32)


def test_calibrate_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="add --int8"):
        ExportConfig(calibrate=Path("a"))
