"""The generator inside a bundle's ONNX graph becomes the two files of ncnn, through its converter pnnx.

    generator-fp32.ncnn.param   the layers, as text: in0 float32 (3, H, W) in -1..1 -> out0, the same shape
    generator-fp32.ncnn.bin     the weights, float32; float16 in generator-fp16.ncnn.bin, which takes half the space

ncnn knows neither uint8 nor NHWC, so what surrounds the generator is cut off here and is done by
`cyclegan_edge.backends.ncnn`. The files fit every picture size and every machine. Needs no torch but that of pnnx.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import onnx
from onnx.utils import Extractor

from cyclegan_edge.backends.ncnn import NcnnBackend
from cyclegan_edge.bundle import Artifact, Bundle, Part, read_bundle, write_manifest
from cyclegan_edge.contract import GraphPrecision
from cyclegan_edge.errors import BundleError, ExportError
from cyclegan_edge.export.proof import at_hand, proven
from cyclegan_edge.export.verify import Judge, Pair, Run, refuse
from cyclegan_edge.files import atomic_file, sha256

_AROUND = frozenset({"Add", "Cast", "Clip", "Div", "Max", "Min", "Mul", "Round", "Sub", "Transpose"})
_SHAPES = ("inputshape=[1,3,64,72]", "inputshape2=[1,3,96,80]")  # two, so that none becomes a constant
_TIMEOUT = 600  # s; 20 are usual


def add_ncnn(folder: Path, *, precision: GraphPrecision = "fp32", judge: Judge = refuse) -> Bundle:
    """Convert the graph of the bundle `folder`, compare the result with PyTorch and with it, and add it.

    Raises what `with_ncnn` raises; nothing is kept then.
    """
    bundle = read_bundle(folder)
    grown = with_ncnn(bundle, precision, at_hand(bundle), judge)
    if grown != bundle:
        write_manifest(folder, grown.manifest)
    return grown


def with_ncnn(bundle: Bundle, precision: GraphPrecision, pairs: Sequence[Pair], judge: Judge = refuse) -> Bundle:
    """The bundle with its float32 graph for ncnn, once that is proven on `pairs`.

    Raises BundleError when there is no such graph. `judge` hears of pnnx that is missing or refuses it, and of a result
    that is out of bounds; nothing is left then.
    """
    graph = bundle.artifact("onnx", "fp32")
    if graph is None:
        raise BundleError(f"{bundle.folder} holds no fp32 ONNX graph to convert; export the model again.")
    source, name = bundle.path(graph), f"generator-{precision}.ncnn"

    def make(stage: Bundle) -> tuple[Artifact, Run]:
        param, weights = (stage.folder / f"{name}.{suffix}" for suffix in ("param", "bin"))
        write_ncnn(source, param, weights, precision=precision)
        artifact = Artifact(
            file=param.name,
            format="ncnn",
            precision=precision,
            sha256=sha256(param),
            parts=(Part(file=weights.name, sha256=sha256(weights)),),
        )
        return artifact, NcnnBackend(stage.with_artifact(artifact), precision=precision).run

    return proven(bundle, f"{name}.param", make, pairs, judge)


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
