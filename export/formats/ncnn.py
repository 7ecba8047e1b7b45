"""ncnn: the generator inside a bundle's ONNX graph becomes two files, through ncnn's converter pnnx.

    generator-fp32.ncnn.param   the layers, as text: in0 float32 (3, H, W) in -1..1 -> out0, the same shape
    generator-fp32.ncnn.bin     the weights, float32; float16 in generator-fp16.ncnn.bin, which takes half the space

ncnn knows neither uint8 nor NHWC, so what surrounds the generator is cut off here and is done by
`cyclegan_edge.backends.ncnn`. The files fit every picture size and every machine. Needs no torch but that of pnnx.
"""

import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import onnx
from onnx.utils import Extractor

from cyclegan_edge.bundle import Artifact, Bundle, Part
from cyclegan_edge.contract import GraphPrecision
from cyclegan_edge.errors import BundleError, ExportError
from cyclegan_edge.export.formats import Target
from cyclegan_edge.files import atomic_file, sha256

_AROUND = frozenset({"Add", "Cast", "Clip", "Div", "Max", "Min", "Mul", "Round", "Sub", "Transpose"})
_SHAPES = ("inputshape=[1,3,64,72]", "inputshape2=[1,3,96,80]")  # two, so that none becomes a constant
_TIMEOUT = 600  # s; 20 are usual


def ncnn_target(precision: GraphPrecision) -> Target:
    """The float32 graph of a bundle for ncnn, with weights of `precision`."""
    file, weights = f"generator-{precision}.ncnn.param", f"generator-{precision}.ncnn.bin"

    def make(bundle: Bundle, folder: Path) -> Artifact:
        graph = bundle.artifact("onnx", "fp32")
        if graph is None:
            raise BundleError(f"{bundle.folder} holds no fp32 ONNX graph to convert; export the model again.")
        write_ncnn(bundle.path(graph), folder / file, folder / weights, precision=precision)
        return Artifact(
            file=file,
            format="ncnn",
            precision=precision,
            sha256=sha256(folder / file),
            parts=(Part(file=weights, sha256=sha256(folder / weights)),),
        )

    return Target(file=file, precision=precision, make=make)


def write_ncnn(graph: Path, param: Path, weights: Path, *, precision: GraphPrecision = "fp32") -> None:
    """Convert the generator in the ONNX file `graph` and write both files, each atomically. Raises ExportError."""
    with tempfile.TemporaryDirectory(prefix="cyclegan-edge-") as folder:  # pnnx leaves eight files
        bare = Path(folder, "generator.onnx")
        onnx.save_model(bare_generator(onnx.load(graph)), bare)
        command = [str(find_pnnx()), bare.name, *_SHAPES, f"fp16={int(precision == 'fp16')}"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExportError(f"pnnx did not convert {graph} ({error}).") from error
        made = bare.with_suffix(".ncnn.param"), bare.with_suffix(".ncnn.bin")
        if done.returncode or not all(path.is_file() for path in made):
            lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
            raise ExportError(f"pnnx did not convert {graph} ({lines[-1].strip()}).")
        for path, target in zip(made, (param, weights), strict=True):
            with atomic_file(target) as partial:
                partial.write_bytes(path.read_bytes())


def bare_generator(model: onnx.ModelProto) -> onnx.ModelProto:
    """The part of an exported graph that is the generator: float32 (N, 3, H, W) in -1..1 in and out.

    What was put around it is peeled off from both ends: everything elementwise, casts and transposes.
    """
    readers = {name: node for node in reversed(model.graph.node) for name in node.input}
    makers = {name: node for node in model.graph.node for name in node.output}
    first, last = model.graph.input[0].name, model.graph.output[0].name
    while first in readers and readers[first].op_type in _AROUND:
        first = readers[first].output[0]
    while last in makers and makers[last].op_type in _AROUND:
        last = next(name for name in makers[last].input if name in makers)
    types = onnx.shape_inference.infer_shapes(model)
    return Extractor(types).extract_model([first], [last])


def find_pnnx() -> Path:
    """The program inside the package pnnx, which is not imported because that would load torch."""
    spec = find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise ExportError("pnnx is not installed, which converts for ncnn; `pip install 'cyclegan-edge[export,ncnn]'`.")
    return Path(spec.origin).with_name("pnnx")
