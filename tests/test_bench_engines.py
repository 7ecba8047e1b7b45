"""`cyclegan-edge bench engines`: real engines in processes of their own, and what is said of those that do not run."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.backends.candidates import Candidate, held
from cyclegan_edge.backends.measured import read_report, to_json
from cyclegan_edge.bench.child import Opening, Task
from cyclegan_edge.bench.engines import measure_engines
from cyclegan_edge.bundle import Bundle, read_bundle
from cyclegan_edge.cli import app
from cyclegan_edge.errors import BundleError, ConfigError, EngineError
from cyclegan_edge.schema import from_mapping, to_mapping


def test_the_table_and_the_file_tell_of_each_engine_and_precision(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"

    options = {"engine": "onnxruntime", "size": 32, "threads": 1, "rounds": 1, "json": file}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    result = CliRunner().invoke(app, ["bench", "engines", str(tiny_bundle), *words])

    assert result.exit_code == 0, result.output
    report = read_report(file)
    (model,) = report.models
    assert {(row.engine, row.precision) for row in model.rows} == {("onnxruntime", "fp32"), ("onnxruntime", "fp16")}
    (exact,) = (row for row in model.rows if row.precision == "fp32")
    assert (exact.psnr_db, exact.out_of_bounds, exact.device) == (100.0, "", "CPU, 1 threads")
    assert exact.median_ms <= exact.p95_ms
    assert exact.file_bytes == (tiny_bundle / "generator-fp32.onnx").stat().st_size
    assert exact.memory_mb > 0
    assert (report.size, report.threads, model.architecture) == (32, 1, "negative ?x?")
    table = [line for line in result.output.splitlines() if re.match(r"(engine|onnxruntime) ", line)]
    assert len(table) == 3
    assert max(map(len, table)) <= 80


def test_a_report_names_neither_host_nor_user_nor_path(tiny_bundle: Path) -> None:
    import platform

    engines: list[EngineName] = ["ncnn", "onnx-cuda", "onnxruntime"]
    report = measure_engines([read_bundle(tiny_bundle)], size=32, threads=1, rounds=1, engines=engines)

    text = to_json(report)
    assert str(tiny_bundle) not in text
    assert str(Path.home()) not in text
    assert f'"{platform.node()}"' not in text


def test_an_engine_that_dies_is_left_out_with_its_last_words(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"  # as Python, but for one engine
    python.write_text(
        f'#!/bin/sh\nread task\ncase "$task" in *fp16*) echo "no such instruction" >&2; exit 3;; esac\n'
        f'{{ echo "$task"; cat; }} | exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    report = measure_engines([read_bundle(tiny_bundle)], size=32, threads=1, rounds=1, engines=["ncnn", "onnxruntime"])

    (model,) = report.models
    assert [row.precision for row in model.rows] == ["fp32"]
    assert model.refused == {
        "ncnn": "the bundle holds nothing for it; `cyclegan-edge export MODEL --ncnn` adds it.",
        "onnxruntime fp16": "its process ended (no such instruction)",
    }


def test_several_models_are_one_file_and_a_line_each_with_the_fastest(tiny_bundle: Path, tmp_path: Path) -> None:
    second = shutil.copytree(tiny_bundle, tmp_path / "models" / "second")
    file = tmp_path / "report.json"

    options = ["--engine", "onnxruntime", "--size", "32", "--threads", "1", "--rounds", "1", "--json", str(file)]
    result = CliRunner().invoke(app, ["bench", "engines", str(tiny_bundle), str(second), *options])

    assert result.exit_code == 0, result.output
    models = read_report(file).models
    assert [len(model.rows) for model in models] == [2, 2]
    table = [line.split()[1:4] for line in result.output.splitlines() if line.startswith("negative ")]
    assert table == [["?x?", row.engine, row.precision] for row in (model.fastest for model in models) if row]


def test_of_several_models_one_that_nothing_runs_is_kept_with_the_reason(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    large = shutil.copytree(tiny_bundle, tmp_path / "models" / "large")
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nread task\ncase "$task" in */large*) kill -9 $$;; esac\n'
        f'{{ echo "$task"; cat; }} | exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    bundles = [read_bundle(large), read_bundle(tiny_bundle)]
    report = measure_engines(bundles, size=32, threads=1, rounds=1, engines=["onnxruntime"])

    killed = "its process ended (signal 9; is there memory for it?)"
    assert [len(model.rows) for model in report.models] == [0, 2]
    assert report.models[0].refused == {"onnxruntime fp32": killed, "onnxruntime fp16": killed}
    assert report.models[0].fastest is None


def test_a_damaged_model_is_refused_before_anything_is_measured(tiny_bundle: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(tiny_bundle, tmp_path / "models" / "damaged")
    (damaged / "generator-fp32.onnx").write_bytes(b"damaged")
    shown: list[str] = []

    with pytest.raises(BundleError, match=r"damaged/generator-fp32.onnx is not the file that was exported"):
        measure_engines(
            [read_bundle(tiny_bundle), read_bundle(damaged)],
            size=32,
            threads=1,
            on_progress=lambda done, total, note: shown.append(note),
        )

    assert shown == []


def test_shapes_are_made_kept_measured_and_chosen_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = pytest.importorskip("cyclegan_edge.export.budget")
    monkeypatch.setattr(budget, "SHAPES", ((4, 1),))
    monkeypatch.setattr(budget, "is_installed", lambda engine: False)  # pnnx takes seconds
    file, kept = tmp_path / "here.json", tmp_path / "shapes"

    options = ["--engine", "onnxruntime", "--size", "32", "--threads", "1", "--rounds", "1", "--json", str(file)]
    result = CliRunner().invoke(app, ["bench", "engines", "--shapes", "--keep", str(kept), *options])

    assert result.exit_code == 0, result.output
    report = read_report(file)
    (model,) = report.models
    assert {row.precision for row in model.rows} == {"fp32", "fp16"}
    assert budget.largest_recorded(1e6, report, size=32) == (budget._compact(4, 1), model.fastest)
    assert {path.name for path in (kept / "compact-4x1").glob("*.onnx")} == {
        "generator-fp32.onnx",
        "generator-fp16.onnx",
    }
    assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the folder of an exported model, or add --shapes"),
        (["models/a", "--keep", "shapes"], "add --shapes"),
        (["--shapes", "--size", "33"], "size is 33"),
        (["--shapes"], "needs torch; make them elsewhere with `cyclegan-edge bench engines --shapes --keep FOLDER`"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_made(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cyclegan_edge.export.budget", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)

    result = CliRunner().invoke(app, ["bench", "engines", *arguments])

    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)


def test_nothing_that_runs_is_an_error_with_the_reasons(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"Nothing in .* runs here. onnx-cuda fp32: This ONNX Runtime .* not built"):
        measure_engines([read_bundle(tiny_bundle)], size=32, threads=1, rounds=1, engines=["onnx-cuda"])


def test_a_size_that_the_model_cannot_have_is_refused_before_anything_starts(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="size is 33"):
        measure_engines([read_bundle(tiny_bundle)], size=33, threads=1)


def test_a_bundle_without_its_float32_graph_is_refused(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    alone = Bundle(bundle.folder, replace(bundle.manifest, artifacts=()))

    with pytest.raises(BundleError, match="holds no fp32 ONNX graph to compare with"):
        measure_engines([alone], size=32, threads=1)


def test_bfloat16_is_a_precision_of_openvino_alone(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)

    assert [it.precision for it in held(bundle, "openvino")] == ["fp32", "fp16", "bf16"]
    assert [it.precision for it in held(bundle, "onnxruntime")] == ["fp32", "fp16"]
    assert held(bundle, "ncnn") == []


def test_what_is_told_to_a_process_comes_back_as_it_was() -> None:
    task = Task(bundle=Path("a"), engine="ncnn", precision="fp32", threads=2, pairs=Path("b.npy"))

    assert from_mapping(Task, json.loads(json.dumps(to_mapping(task)))) == task
    assert from_mapping(Opening, json.loads(json.dumps(to_mapping(Opening(psnr_db=1.0))))) == Opening(psnr_db=1.0)
    assert str(Candidate("ncnn", "fp32")) == "ncnn fp32"
