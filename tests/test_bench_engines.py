"""`cyclegan-edge bench engines`: real engines in processes of their own, and what is said of those that do not run."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cyclegan_edge.backends.candidates import Candidate, held
from cyclegan_edge.backends.measured import read_report, to_json
from cyclegan_edge.bench.child import Opening, Task
from cyclegan_edge.bench.engines import architecture_of, measure_engines
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
    assert {(row.engine, row.precision) for row in report.rows} == {("onnxruntime", "fp32"), ("onnxruntime", "fp16")}
    (exact,) = (row for row in report.rows if row.precision == "fp32")
    assert (exact.psnr_db, exact.out_of_bounds, exact.device) == (100.0, "", "CPU, 1 threads")
    assert exact.median_ms <= exact.p95_ms
    assert exact.file_bytes == (tiny_bundle / "generator-fp32.onnx").stat().st_size
    assert exact.memory_mb > 0
    assert (report.size, report.threads, report.model.architecture) == (32, 1, "negative ?x?")
    table = [line for line in result.output.splitlines() if re.match(r"(engine|onnxruntime) ", line)]
    assert len(table) == 3
    assert max(map(len, table)) <= 80


def test_a_report_names_neither_host_nor_user_nor_path(tiny_bundle: Path) -> None:
    import platform

    report = measure_engines(read_bundle(tiny_bundle), size=32, threads=1, rounds=1, engines=["onnxruntime"])

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

    report = measure_engines(read_bundle(tiny_bundle), size=32, threads=1, rounds=1, engines=["ncnn", "onnxruntime"])

    assert [row.precision for row in report.rows] == ["fp32"]
    assert report.refused == {
        "ncnn": f"the bundle holds nothing for it; `cyclegan-edge export {tiny_bundle} --ncnn` adds it.",
        "onnxruntime fp16": "its process ended (no such instruction)",
    }


def test_nothing_that_runs_is_an_error_with_the_reasons(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"Nothing in .* runs here. onnx-cuda fp32: This ONNX Runtime .* not built"):
        measure_engines(read_bundle(tiny_bundle), size=32, threads=1, rounds=1, engines=["onnx-cuda"])


def test_a_size_that_the_model_cannot_have_is_refused_before_anything_starts(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="size is 33"):
        measure_engines(read_bundle(tiny_bundle), size=33, threads=1)


def test_a_bundle_without_its_float32_graph_is_refused(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    alone = Bundle(bundle.folder, replace(bundle.manifest, artifacts=()))

    with pytest.raises(BundleError, match="holds no fp32 ONNX graph to compare with"):
        measure_engines(alone, size=32, threads=1)


def test_bfloat16_is_a_precision_of_openvino_alone(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)

    assert [it.precision for it in held(bundle, "openvino")] == ["fp32", "fp16", "bf16"]
    assert [it.precision for it in held(bundle, "onnxruntime")] == ["fp32", "fp16"]
    assert held(bundle, "ncnn") == []


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "resnet", "width": 16, "blocks": 9},
        {"generator": "resnet", "down": [16, 32, 64], "blocks": [64] * 9},
    ],
)
def test_the_architecture_is_told_of_ours_and_of_weights_from_elsewhere(
    settings: dict[str, object], tiny_bundle: Path
) -> None:
    bundle = read_bundle(tiny_bundle)

    assert architecture_of(Bundle(bundle.folder, replace(bundle.manifest, architecture=settings))) == "resnet 16x9"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 2}', "[" * 50_000, " " * 300_000])
def test_a_file_that_is_no_report_is_refused_in_a_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(ConfigError):
        read_report(tmp_path / "a.json")


def test_what_is_told_to_a_process_comes_back_as_it_was() -> None:
    task = Task(bundle=Path("a"), engine="ncnn", precision="fp32", threads=2, pairs=Path("b.npy"))

    assert from_mapping(Task, json.loads(json.dumps(to_mapping(task)))) == task
    assert from_mapping(Opening, json.loads(json.dumps(to_mapping(Opening(psnr_db=1.0))))) == Opening(psnr_db=1.0)
    assert str(Candidate("ncnn", "fp32")) == "ncnn fp32"
