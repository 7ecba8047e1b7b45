"""Nothing is sent anywhere: no host is looked up and no socket opened, whatever the engines would like to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.images import write_image

DATA = Path(__file__).parent / "data"
LIVE = ["webcam", "MODEL", "--source", "synthetic", "--headless", "--frames", "30"]
LOOKS_UP = "import socket\ntry: socket.getaddrinfo('host.invalid', 80)\nexcept OSError: socket.socket().close()"


@pytest.fixture(scope="session")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/trace_network.c as a library to preload."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    path = tmp_path_factory.mktemp("tracer") / "trace_network.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, DATA / "trace_network.c", "-ldl"], check=True)
    return path


def traced(tracer: Path, tmp_path: Path, *arguments: str) -> str:
    """What a Python process with these arguments looked up and opened, and what it left in the user's cache."""
    network, cache = tmp_path / "network.txt", tmp_path / "cache"
    cache.mkdir()
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    environment |= {"TRACE_NETWORK": str(network), "LD_PRELOAD": str(tracer), "XDG_CACHE_HOME": str(cache)}
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=True)
    left = [path.name for path in cache.rglob("*") if path.is_file()]
    return "".join([network.read_text() if network.exists() else "", *left])


def test_the_tracer_sees_a_look_up_and_a_socket(tracer: Path, tmp_path: Path) -> None:
    seen = traced(tracer, tmp_path, "-c", LOOKS_UP)

    assert "getaddrinfo host.invalid" in seen
    assert "socket IPv4" in seen


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_live_loop_opens_no_connection(tracer: Path, tiny_bundle: Path, tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    command = [str(tiny_bundle) if word == "MODEL" else word for word in LIVE]

    assert traced(tracer, tmp_path, "-m", "cyclegan_edge", *command, "--engine", engine) == ""


def test_translating_pictures_opens_no_connection(tracer: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8))
    command = ["translate", str(tiny_bundle), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]

    assert traced(tracer, tmp_path, "-m", "cyclegan_edge", *command) == ""


def test_a_users_own_choice_is_kept() -> None:
    show = "import cyclegan_edge, os; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['ORT_TELEMETRY_DISABLED'])"
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "0"}

    done = subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "1"]
