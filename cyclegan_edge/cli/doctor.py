"""`cyclegan-edge doctor`: what this machine can do, what is missing, and the command that would add it. Never fails."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from rich.markup import escape

from cyclegan_edge.cli.console import console
from cyclegan_edge.errors import CycleGanEdgeError, SourceError, first_line


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the report."""

    topic: str
    subject: str
    found: str  # the version, or why there is none
    missing: bool = False
    remedy: str = ""  # the command that would add what is missing


def doctor() -> None:
    """Print what this machine can do, what is missing, and the command that would add it."""
    facts = examine()
    width = max(len(fact.subject) for fact in facts)
    for topic in dict.fromkeys(fact.topic for fact in facts):
        console.print(f"[bold]{topic}[/bold]")
        for fact in (fact for fact in facts if fact.topic == topic):
            mark = "[yellow]-[/yellow]" if fact.missing else "[green]✓[/green]"
            remedy = f"; [bold]{escape(fact.remedy)}[/bold]" if fact.remedy else ""
            console.print(f"  {mark} {fact.subject:{width}}  {escape(fact.found)}{remedy}")


def examine() -> list[Fact]:
    """Every fact about this machine, in the order they are printed. Raises nothing."""
    from cyclegan_edge.backends.base import INSTALL

    extra = "pip install 'cyclegan-edge[{}]'".format
    machine, engines, making, camera = "This machine", "Engines", "Training and export", "Camera and screen"
    return [
        _probe(machine, "Python", _python),
        _probe(machine, "cyclegan-edge", lambda: version("cyclegan-edge"), "pip install cyclegan-edge"),
        _probe(machine, "extension", _extension, "pip install --force-reinstall --no-deps cyclegan-edge"),
        _probe(machine, "NVIDIA GPUs", _gpus),
        _probe(engines, "tensorrt", _tensorrt),
        _probe(engines, "tensorrt-rtx", _tensorrt_rtx),
        _probe(engines, "onnx-tensorrt", lambda: _provider("Tensorrt"), INSTALL["onnx-tensorrt"]),
        _probe(engines, "onnx-cuda", lambda: _provider("CUDA"), INSTALL["onnx-cuda"]),
        _probe(engines, "ncnn", lambda: f"{_module('ncnn')} on the CPU", INSTALL["ncnn"]),
        _probe(engines, "openvino", _openvino, INSTALL["openvino"]),
        _probe(engines, "onnxruntime", _onnxruntime, INSTALL["onnxruntime"]),
        _probe(making, "torch", _torch, extra("train,export")),
        _probe(making, "torchvision", lambda: version("torchvision"), extra("train")),
        _probe(making, "tensorboard", lambda: version("tensorboard"), extra("train")),
        _probe(making, "torch-fidelity", lambda: version("torch-fidelity"), extra("evaluate")),
        _probe(making, "onnx", lambda: version("onnx"), extra("export")),
        _probe(making, "pnnx", lambda: version("pnnx"), extra("export")),
        _probe(camera, "OpenCV", lambda: _module("cv2"), "pip install opencv-python"),
        _probe(camera, "cameras", _cameras),
        _probe(camera, "GStreamer", _gstreamer),
        _probe(camera, "window", _window),
        _probe(camera, "web page", lambda: f"websockets {version('websockets')}", extra("web")),
        _probe(camera, "H.264 and low-delay streams", lambda: f"PyAV {version('av')}", extra("video")),
    ]


def _probe(topic: str, subject: str, look: Callable[[], str], remedy: str = "") -> Fact:
    try:
        return Fact(topic, subject, look())
    except CycleGanEdgeError as error:  # its sentence says what to do
        return Fact(topic, subject, str(error).rstrip("."), missing=True)
    except ModuleNotFoundError:  # includes a distribution that is not there
        found = "not installed"
    except LookupError as error:  # a build without it
        found = str(error)
    except Exception as error:  # a broken library can fail in any way, and this is where one looks why
        found = f"does not load ({first_line(error)})"
    return Fact(topic, subject, found, missing=True, remedy=remedy)


def _python() -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{platform.python_version()}, {platform.system()} {platform.machine()}, {cores} cores"


def _extension() -> str:
    from cyclegan_edge import preprocess

    return f"runs {preprocess.default_isa()}, of {', '.join(preprocess.available_isas())}"


def _gpus() -> str:
    """Each with the TensorRT that fits it, whichever is installed."""
    from cyclegan_edge.backends.cuda import load_cuda
    from cyclegan_edge.backends.tensorrt.library import RTX, TENSORRT, supports

    cuda = load_cuda()
    found = []
    for index in range(cuda.device_count()):
        capability = cuda.compute_capability(index)
        either = f"{RTX.title} or {TENSORRT.title}"
        only = f"{TENSORRT.title}; {RTX.title} does not support {capability}"
        found.append(f"{cuda.device_name(index)} ({capability}): {either if supports(RTX, capability) else only}")
    return ". ".join(found)


def _tensorrt() -> str:
    from cyclegan_edge.backends.tensorrt.library import this_device

    device = this_device()
    return f"{device.tensorrt} on {device.gpu}, compute capability {device.compute_capability}"


def _tensorrt_rtx() -> str:
    from cyclegan_edge.backends.tensorrt.library import RTX, load, this_device, why_unsupported

    version = load(RTX).__version__
    builds = f"{version}, builds engines for RTX GPUs from Ampere on"
    try:
        here = this_device(RTX)
    except CycleGanEdgeError:  # the line about TensorRT says why there is none
        return f"{builds}; none of them is here"
    return f"{builds}; {why_unsupported(RTX, here) or f'runs them on {here.gpu}'}"


def _onnxruntime() -> str:
    import onnxruntime

    providers = (name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    return f"{onnxruntime.__version__}, built for {', '.join(providers)}"


def _openvino() -> str:
    import openvino

    core = openvino.Core()
    precisions = "fp32 and bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"
    return f"{openvino.__version__.split('-')[0]} on {', '.join(core.available_devices)}, {precisions}"


def _provider(name: str) -> str:
    import onnxruntime

    if f"{name}ExecutionProvider" not in onnxruntime.get_available_providers():
        raise LookupError("not in this onnxruntime")
    return f"in onnxruntime {onnxruntime.__version__}; whether it starts shows when it is used"


def _torch() -> str:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device, so the CPU"
    return f"{torch.__version__} on {gpu}"


def _module(name: str) -> str:
    """The version of a module that loads."""
    return str(import_module(name).__version__)


def _cameras() -> str:
    from cyclegan_edge.video.captures import cameras

    if not (found := list(cameras())):
        raise SourceError("no /dev/video* here; plug one in, or try `--source synthetic`.")
    return ", ".join(f"{device}{_camera_name(Path(device))}" for device in found)


def _camera_name(device: Path) -> str:
    try:
        return f" ({Path('/sys/class/video4linux', device.name, 'name').read_text(encoding='utf-8').strip()})"
    except OSError:
        return ""


def _gstreamer() -> str:
    from cyclegan_edge.video.captures import has_gstreamer

    if not has_gstreamer():
        raise SourceError("not in this OpenCV, needed for csi:// cameras only; on a Jetson use JetPack's OpenCV.")
    return "in this OpenCV"


def _window() -> str:
    from cyclegan_edge.video.sinks import check_display

    check_display()
    return f"on the display {os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY') or 'of this desktop'}"
