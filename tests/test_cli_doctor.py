import sys
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cyclegan_edge.cli import app
from cyclegan_edge.cli.doctor import Fact, examine


def found(subject: str) -> Fact:
    return next(fact for fact in examine() if fact.subject == subject)


def test_doctor_prints_every_fact() -> None:
    result = CliRunner().invoke(app, ["doctor"], catch_exceptions=False)

    assert result.exit_code == 0
    for fact in examine():
        assert fact.subject in result.output
        assert fact.found in result.output


def test_doctor_knows_the_extension_and_the_default_engine() -> None:
    assert found("extension").found.startswith("runs ")
    assert not found("onnxruntime").missing


@pytest.mark.parametrize("module", ["cv2", "ncnn", "numpy", "onnxruntime", "openvino", "torch", "cyclegan_edge._core"])
def test_doctor_survives_whatever_is_missing(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    assert len(examine()) > 10


@pytest.mark.parametrize(
    ("engine", "module", "command"),
    [
        ("openvino", "openvino", "pip install 'cyclegan-edge[openvino]'"),
        ("ncnn", "ncnn", "pip install 'cyclegan-edge[ncnn]'"),
        ("onnx-cuda", "onnxruntime", "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ],
)
def test_doctor_names_the_command_for_what_is_missing(
    engine: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    fact = found(engine)

    assert fact.missing
    assert fact.remedy == command


def test_doctor_says_when_onnxruntime_is_not_built_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])

    assert found("onnx-tensorrt").missing
    assert found("onnx-cuda").found == "not in this onnxruntime"


def test_doctor_says_of_each_gpu_which_tensorrt_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names, capabilities = ["NVIDIA H200", "NVIDIA GeForce RTX 4090", "Orin"], ["9.0", "8.9", "8.7"]
    cuda = SimpleNamespace(
        device_count=lambda: 3, device_name=names.__getitem__, compute_capability=capabilities.__getitem__
    )
    monkeypatch.setattr("cyclegan_edge.backends.cuda.load_cuda", lambda: cuda)

    assert found("NVIDIA GPUs").found == (
        "NVIDIA H200 (9.0): TensorRT; TensorRT for RTX does not support 9.0. "
        "NVIDIA GeForce RTX 4090 (8.9): TensorRT for RTX or TensorRT. "
        "Orin (8.7): TensorRT; TensorRT for RTX does not support 8.7"
    )
