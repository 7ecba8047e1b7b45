"""Drive our code as far as TensorRT's bindings go over empty libraries, and print what it said, as JSON.

Run by tests/test_tensorrt_contract.py in a process of its own for each version.
"""

import json
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorrt_bindings as trt  # type: ignore[import-not-found]  # on the path of this process only

from cyclegan_edge.backends.tensorrt import build, explain
from cyclegan_edge.backends.tensorrt.build import EngineConfig, build_engine
from cyclegan_edge.backends.tensorrt.library import TENSORRT, this_device, trt_log
from cyclegan_edge.backends.tensorrt.run import TensorrtBackend
from cyclegan_edge.bundle import Artifact, Bundle, Manifest, Source
from cyclegan_edge.errors import CycleGanEdgeError
from cyclegan_edge.files import sha256

SHAPES = ((1, 256, 256),) * 3


def said(deed: Callable[[], object]) -> str:
    try:
        return repr(deed())
    except CycleGanEdgeError as error:
        return f"{type(error).__name__}: {error}"


def bundle(folder: Path) -> Bundle:
    (folder / "plan").write_bytes(b"plan")
    artifact = Artifact(
        file="plan",
        format="tensorrt",
        precision="fp16",
        sha256=sha256(folder / "plan"),
        device=this_device(),
        shapes=SHAPES,
    )
    source = Source(file="checkpoint.pt", sha256="0", step=1)
    return Bundle(
        folder,
        Manifest(name="x", direction="ab", size=256, architecture={}, source=source, artifacts=(artifact,)),
    )


if __name__ == "__main__":
    sys.modules["tensorrt"] = trt  # what the wheel `tensorrt` does, once it has loaded the libraries
    log = trt_log(trt)
    log.logger.log(trt.ILogger.Severity.VERBOSE, "not for anyone")
    log.logger.log(trt.ILogger.Severity.ERROR, "an\n error")
    log.logger.log(trt.ILogger.Severity.INTERNAL_ERROR, "it goes on")
    logged = log.reason()
    steps: list[tuple[str, int, int]] = []

    def on_progress(*step: Any) -> bool:
        steps.append(step)
        return len(steps) < 3

    monitor = build._progress_monitor(trt, on_progress, threading.Event())
    monitor.phase_start("tactics", None, 3)
    go_on = [monitor.step_complete("tactics", step) for step in range(2)]
    monitor.phase_finish("tactics")
    spent: dict[str, float] = {}
    profiler = explain._profiler(trt, spent)
    for milliseconds in (0.5, 0.25):
        profiler.report_layer_time("stem", milliseconds)
    with tempfile.TemporaryDirectory() as folder:
        facts = {
            "version": trt.__version__,
            "build": said(lambda: build_engine(Path("no.onnx"), EngineConfig(shapes=SHAPES))),
            "explain": said(lambda: explain.explain(bundle(Path(folder)))),
            "open": said(lambda: TensorrtBackend(bundle(Path(folder)))),
            "logged": logged,
            "steps": steps,
            "go_on": go_on,
            "spent": spent,
            "profiler_is_tensorrts": isinstance(profiler, trt.IProfiler),
            "network_flags": build._network_flags(TENSORRT, trt),
        }
    json.dump(facts, sys.stdout)
