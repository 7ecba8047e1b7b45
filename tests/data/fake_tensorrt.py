"""A `tensorrt` of any version, made from tensorrt_api.json: it records calls and computes what the tests' graph says.

A name that the version lacks raises AttributeError, an enum has that version's numbers, and work goes through the fake
libcudart. Loaded by tests/test_tensorrt_flow.py.
"""

import ctypes
import enum
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

API = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text(encoding="utf-8"))
*VERSIONS, RTX = API["versions"]  # of TensorRT; "rtx-1.7.1.116" is TensorRT for RTX
SHAPES = ((1, 256, 256), (1, 256, 320), (2, 512, 512))  # of the engine's profile


class Net(ctypes.Structure):
    """What fake_cudart.c computes: the numbers in the graph of `tiny_bundle`; 255 - image where there is no graph."""

    _fields_ = (("scale", ctypes.c_float * 3), ("offset", ctypes.c_float * 3), ("columns", ctypes.c_int))


NEGATIVE = bytes(Net((-1.0, -1.0, -1.0), (255.0, 255.0, 255.0), 0))
PLAN = b"plan"  # stands before those numbers


def net_in(path: Path) -> bytes:
    """Of the ONNX file `path`."""
    if path.suffix != ".onnx" or not path.is_file():
        return b""
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    if not {"scale", "offset", "columns"} <= numbers.keys():
        return b""
    return bytes(Net(tuple(numbers["scale"]), tuple(numbers["offset"]), int(numbers["columns"])))


class Recorded:
    """An object of a TensorRT class that knows the members of its version, and nothing else."""

    def __init__(self, fake: "Fake", kind: str, **answers: Any) -> None:
        vars(self).update(_fake=fake, _kind=kind, _answers=answers)

    def __getattr__(self, name: str) -> Any:
        found = self._fake.fact("classes", self._kind, name)
        if found is None:
            raise AttributeError(f"TensorRT {self._fake.version} has no {self._kind}.{name}")
        if found != "method":
            return self._answers[name]

        def call(*arguments: Any) -> Any:
            self._fake.calls.append((f"{self._kind}.{name}", arguments))
            answer = self._answers.get(name)
            return answer(*arguments) if callable(answer) else answer

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if self._fake.fact("classes", self._kind, name) != "rw":
            raise AttributeError(f"TensorRT {self._fake.version}: {self._kind}.{name} cannot be set")
        self._fake.calls.append((f"{self._kind}.{name} =", (value,)))
        self._answers[name] = value


class Fake:
    """A `tensorrt` of one version; its attributes of plain type decide how it behaves."""

    def __init__(self, version: str, cudart: ctypes.CDLL) -> None:
        self.version, self.cudart = version, cudart
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.opens, self.runs = True, True
        self.precision = "FLOAT" if version in VERSIONS[:2] else "HALF"  # of the parsed graph: half from 10.12 on
        self.bounds = [(*shape, 3) for shape in SHAPES]  # of the engine: what was last built, or these
        self.cache_fits = True
        self.during_run: Callable[[], None] = lambda: None
        self.layer_times = {"stem": 0.5, "reformat": 0.25}  # what a profiler hears of each run, in ms
        self.module: Any = types.SimpleNamespace()
        self.module.__version__ = version.removeprefix("rtx-")
        for name in API["enums"]:
            if name != "ILogger.Severity":
                setattr(self.module, name, self.enum(name))
        self.module.ILogger = type("ILogger", (), {"Severity": self.enum("ILogger.Severity")})
        self.module.IProgressMonitor = type("IProgressMonitor", (), {})
        self.module.IProfiler = type("IProfiler", (), {})
        self.module.Builder, self.module.OnnxParser, self.module.Runtime = self.builder, self.parser, self.runtime

    def fact(self, part: str, owner: str, member: str) -> str | None:
        values = API[part][owner].get(member, "-").split()
        value = values[0] if len(values) == 1 else values[API["versions"].index(self.version)]
        return None if value == "-" else str(value)

    def enum(self, name: str) -> Any:
        members = {member: self.fact("enums", name, member) for member in API["enums"][name]}
        return enum.Enum(name, {key: int(value) for key, value in members.items() if value is not None}, type=Flag)

    def made(self, kind: str, **answers: Any) -> Recorded:
        return Recorded(self, kind, **answers)

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments in self.calls if called == name]

    def log(self, text: str) -> None:
        self.logger.log(self.module.ILogger.Severity.ERROR, text)

    def builder(self, logger: Any) -> Recorded:
        self.logger = logger
        uint8 = self.module.DataType["UINT8"]
        result = self.made("ITensor", dtype=self.module.DataType[self.precision])
        layer = self.made("ILayer", get_output=lambda index: result)
        image = self.made("ITensor", name="image", dtype=uint8, shape=(-1, -1, -1, 3))
        translated = self.made("ITensor", name="translated", dtype=uint8, shape=(-1, -1, -1, 3))
        self.network = self.made(
            "INetworkDefinition",
            num_inputs=1,
            num_outputs=1,
            num_layers=1,
            get_input=lambda index: image,
            get_output=lambda index: translated,
            get_layer=lambda index: layer,
        )
        self.config = self.made(
            "IBuilderConfig",
            create_timing_cache=lambda known: known or "empty",
            set_timing_cache=lambda cache, ignore: cache == "empty" or self.cache_fits,
            get_timing_cache=lambda: self.made("ITimingCache", serialize=lambda: bytearray(b"timings")),
        )
        return self.made(
            "Builder",
            create_network=lambda flags: self.network,
            create_builder_config=lambda: self.config,
            create_optimization_profile=lambda: self.made("IOptimizationProfile", set_shape=self.profile),
            build_serialized_network=self.build,
        )

    def profile(self, name: str, *bounds: tuple[int, int, int, int]) -> None:
        self.bounds = list(bounds)

    def parser(self, network: Any, logger: Any) -> Recorded:
        assert network is self.network
        return self.made("OnnxParser", parse_from_file=self.parse)

    def parse(self, path: str) -> bool:
        self.parsed = net_in(Path(path))
        return True

    def build(self, network: Any, config: Any) -> bytearray | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 2)
        going_on = [monitor.step_complete("Building", step) for step in range(2)]
        monitor.phase_finish("Building")
        return bytearray(PLAN + self.parsed) if all(going_on) else None

    def runtime(self, logger: Any) -> Recorded:
        self.logger = logger
        names = ["image", "translated"]
        self.contexts: list[Recorded] = []
        self.engine = self.made(
            "ICudaEngine",
            num_io_tensors=2,
            get_tensor_name=lambda index: names[index],
            get_tensor_mode=lambda name: self.module.TensorIOMode["INPUT" if name == "image" else "OUTPUT"],
            get_tensor_dtype=lambda name: self.module.DataType.UINT8,
            get_tensor_shape=lambda name: (-1, -1, -1, 3),
            get_tensor_profile_shape=lambda name, profile: self.bounds,
            create_execution_context=self.context,
            create_runtime_config=self.runtime_config,
            create_engine_inspector=lambda: self.made("EngineInspector", get_engine_information=lambda format_: LAYERS),
        )
        return self.made("Runtime", deserialize_cuda_engine=self.open)

    def runtime_config(self) -> Recorded:
        cache = self.made("IRuntimeCache", deserialize=lambda blob: True, serialize=lambda: bytearray(b"kernels"))
        return self.made("IRuntimeConfig", create_runtime_cache=lambda: cache, set_runtime_cache=lambda cache: True)

    def context(self, config: Any = None) -> Recorded:
        known: dict[str, Any] = {}

        def execute(stream: int) -> bool:
            self.during_run()
            nbytes = int(np.prod(known["shape"]))
            addresses = (ctypes.c_void_p(known[name]) for name in ("translated", "image"))
            net, width = ctypes.byref(Net.from_buffer_copy(self.opened)), ctypes.c_size_t(known["shape"][2])
            self.cudart.fake_kernel(ctypes.c_void_p(stream), *addresses, ctypes.c_size_t(nbytes), net, width)
            for name, milliseconds in self.layer_times.items() if context.profiler else ():
                context.profiler.report_layer_time(name, milliseconds)
            if not self.runs:
                self.log("illegal memory access")
            return self.runs

        context = self.made(
            "IExecutionContext",
            profiler=None,
            set_input_shape=lambda name, shape: known.update(shape=shape) is None,
            infer_shapes=list,
            set_tensor_address=lambda name, address: known.update({name: address}) is None,
            execute_async_v3=execute,
        )
        self.contexts.append(context)
        return context

    def open(self, plan: bytes) -> Recorded | None:
        self.opened = plan.removeprefix(PLAN) or NEGATIVE
        if not self.opens:
            self.log("not compatible with this version of TensorRT")
        return self.engine if self.opens else None


class Flag:
    """As in the bindings: it becomes a number only when asked to."""

    value: int

    def __int__(self) -> int:
        return self.value


LAYERS = json.dumps(
    {
        "Layers": [
            {
                "Name": "stem",
                "LayerType": "CaskConvolution",
                "Inputs": [{"Name": "x", "Format/Datatype": "Half"}],
                "Outputs": [{"Name": "y", "Format/Datatype": "Half"}],
                "TacticName": "sm80_xmma_fprop",
            },
            "a layer of which only the name is known",
        ]
    }
)
