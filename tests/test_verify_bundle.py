"""A bundle that was copied verifies without torch; what is damaged, wrong or unable to run is told apart."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from cyclegan_edge.bundle import MANIFEST, Part, Reference, read_bundle, write_manifest
from cyclegan_edge.cli import app
from cyclegan_edge.contract import Translate
from cyclegan_edge.errors import BundleError, ConfigError, EngineError
from cyclegan_edge.export.parity import Verdict
from cyclegan_edge.export.verify_bundle import verify_bundle
from cyclegan_edge.files import sha256
from cyclegan_edge.images import write_image

FULL, HALF = "generator-fp32.onnx", "generator-fp16.onnx"


@pytest.fixture
def copied(tiny_bundle: Path, tiny_translated: Translate, tmp_path: Path, rng: np.random.Generator) -> Path:
    """The tiny model, with two reference pictures, in another folder than it was made in."""
    bundle = read_bundle(tiny_bundle)
    references = []
    for number in (1, 2):
        picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        parts = []
        for name, image in (
            (f"{number}.png", picture),
            (f"{number}-translated.png", tiny_translated(picture[None])[0]),
        ):
            path = tiny_bundle / name
            write_image(path, image)
            parts.append(Part(file=name, sha256=sha256(path), bytes=path.stat().st_size))
        references.append(Reference(picture=parts[0], translated=parts[1]))
    write_manifest(tiny_bundle, replace(bundle.manifest, references=tuple(references)))
    folder = shutil.copytree(tiny_bundle, tmp_path / "device" / "model")
    shutil.rmtree(tiny_bundle)
    return folder


@pytest.fixture
def only_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])


def verdicts(folder: Path, **options: Any) -> list[Verdict]:
    return list(verify_bundle(read_bundle(folder), **options))


def change(folder: Path, how: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    how(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def identity() -> onnx.ModelProto:
    """A graph with the interface of a generator that changes nothing."""
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["translated"])],
        "identity",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("translated", TensorProto.UINT8, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.usefixtures("only_onnxruntime")
def test_every_graph_of_a_copied_bundle_is_compared_and_what_is_missing_is_said(copied: Path) -> None:
    found = verdicts(copied)

    assert [(it.file, it.engine.split()[0], it.outcome) for it in found] == [
        (FULL, "onnx-cuda", "skipped"),
        (FULL, "openvino", "skipped"),
        (FULL, "onnxruntime", "good"),
        (HALF, "onnx-cuda", "skipped"),
        (HALF, "openvino", "skipped"),
        (HALF, "onnxruntime", "good"),
    ]
    parity = found[2].parity
    assert parity is not None
    assert (parity.images, parity.height, parity.max_levels, parity.psnr_db) == (2, 32, 0, 100.0)
    assert "is not built for CUDA; `pip uninstall" in found[0].reason
    assert "add it with `pip install 'cyclegan-edge[openvino]'`" in found[1].reason


def test_openvino_is_compared_where_it_is_installed(copied: Path) -> None:
    openvino = pytest.importorskip("openvino")
    precisions = ["fp32", "fp16"]
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precisions.append("bf16")  # of the float32 graph

    found = [verdicts(copied, engine="openvino", precision=precision) for precision in precisions]

    assert [(it.file, it.outcome) for (it,) in found] == [(FULL, "good"), (HALF, "good"), (FULL, "good")][: len(found)]
    assert [it.engine.split()[-1] for (it,) in found] == precisions


@pytest.mark.parametrize("change_file", [lambda it: it[:-1], lambda it: it + b"\0", lambda it: b"\0" + it[1:]])
@pytest.mark.usefixtures("only_onnxruntime")
def test_a_damaged_graph_fails_and_is_not_run(change_file: Callable[[bytes], bytes], copied: Path) -> None:
    (copied / FULL).write_bytes(change_file((copied / FULL).read_bytes()))

    damaged, *others = verdicts(copied)

    assert (damaged.file, damaged.outcome, damaged.parity) == (FULL, "failed", None)
    assert f"{copied / FULL} is not the file that was exported" in damaged.reason
    assert {it.file for it in others} == {HALF}
    assert others[-1].outcome == "good"


@pytest.mark.usefixtures("only_onnxruntime")
def test_a_damaged_reference_fails_and_the_other_is_compared(copied: Path) -> None:
    (copied / "2-translated.png").write_bytes((copied / "1-translated.png").read_bytes())

    damaged, *others = verdicts(copied)

    assert (damaged.file, damaged.outcome) == ("2-translated.png", "failed")
    assert [it.parity.images for it in others if it.parity] == [1, 1]


def test_without_a_sound_reference_nothing_is_run(copied: Path) -> None:
    for number in (1, 2):
        (copied / f"{number}.png").unlink()

    assert [(it.file, it.outcome) for it in verdicts(copied)] == [("1.png", "failed"), ("2.png", "failed")]


def test_another_graph_under_a_right_hash_is_out_of_bounds(copied: Path) -> None:
    onnx.save(identity(), copied / HALF)
    change(copied, lambda it: it["artifacts"][1].update(sha256=sha256(copied / HALF)))

    (verdict,) = verdicts(copied, engine="onnxruntime", precision="fp16")

    assert verdict.outcome == "failed"
    assert "levels of 255, expected at most 4" in verdict.reason
    assert verdict.reason.endswith("; choose another engine, or export the model again.")


def test_a_graph_that_no_engine_opens_has_failed(copied: Path) -> None:
    (copied / HALF).write_bytes(b"\x08\x0a")  # a version and no graph
    change(copied, lambda it: it["artifacts"][1].update(sha256=sha256(copied / HALF), bytes=None))

    found = {it.outcome for it in verdicts(copied) if it.file == HALF and it.engine.startswith("onnxruntime")}

    assert found == {"failed"}


def test_an_engine_of_another_device_is_skipped_unless_it_was_asked_for(copied: Path) -> None:
    elsewhere = {"gpu": "Orin", "compute_capability": "8.7", "tensorrt": "10.3.0.30", "platform": "Linux-aarch64"}
    change(copied, lambda it: it["artifacts"].append(it["artifacts"][1] | {"format": "tensorrt", "device": elsewhere}))

    *_, foreign = verdicts(copied)
    (asked_for,) = verdicts(copied, engine="tensorrt")

    assert (foreign.engine, foreign.outcome) == ("tensorrt", "skipped")
    assert (asked_for.engine, asked_for.outcome) == ("tensorrt", "failed")
    assert foreign.reason == asked_for.reason


def test_nothing_that_runs_is_an_error(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(EngineError, match=r"Nothing in .* runs here, so nothing was compared; `cyclegan-edge doctor`"):
        verdicts(copied)


def test_a_bundle_without_references_is_read_but_cannot_be_verified(tiny_bundle: Path) -> None:
    assert read_bundle(tiny_bundle).manifest.references == ()
    with pytest.raises(BundleError, match="holds no reference pictures to compare with; export the model again"):
        verdicts(tiny_bundle)


def test_references_of_another_size_are_refused(copied: Path) -> None:
    change(copied, lambda it: it.update(size=64))

    with pytest.raises(BundleError, match=r"have shapes \(32, 32, 3\) and \(32, 32, 3\), expected \(64, 64, 3\)"):
        verdicts(copied)


def test_what_the_bundle_does_not_hold_is_refused(copied: Path) -> None:
    with pytest.raises(BundleError, match="holds nothing for ncnn; leave the options out"):
        verdicts(copied, engine="ncnn")
    with pytest.raises(BundleError, match="holds nothing for onnxruntime in bf16"):
        verdicts(copied, engine="onnxruntime", precision="bf16")
    with pytest.raises(ConfigError, match="engine is 'auto', but every engine is verified by itself"):
        verdicts(copied, engine="auto")


@pytest.mark.usefixtures("only_onnxruntime")
def test_the_command_prints_a_table_and_what_was_skipped(copied: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(copied)])

    assert result.exit_code == 0, result.output
    assert "max 1, 60 dB, 0.999" in result.output
    assert "skipped, openvino: The engine openvino is not installed" in result.output
    assert "6 files are as they were exported, and no engine is out of bounds." in result.output


@pytest.mark.usefixtures("only_onnxruntime")
def test_the_command_fails_on_a_damaged_file(copied: Path) -> None:
    (copied / HALF).write_bytes(b"")

    result = CliRunner().invoke(app, ["verify", str(copied)])

    assert result.exit_code == 1
    assert f"failed, {copied / HALF} is not the file that was exported (its SHA-256" in result.output
    assert "1 of 4 failed, generator-fp16.onnx; the reasons are above." in str(result.exception)


def test_the_command_needs_no_torch_and_no_onnx(copied: Path) -> None:
    without = "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'onnxscript'])); sys.argv[0] = 'x'; "
    command = f"{without}from cyclegan_edge.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", command, "verify", str(copied)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "generator-fp32.onnx" in done.stdout
