"""A bundle gets its TensorRT engine, on the device that will run it and without torch."""

from pathlib import Path

from cyclegan_edge.backends.ort import OrtBackend
from cyclegan_edge.backends.trt import TrtBackend
from cyclegan_edge.bundle import MULTIPLE, Artifact, Bundle, Precision, read_bundle, write_manifest
from cyclegan_edge.errors import BundleError, EngineError
from cyclegan_edge.export.proof import landscapes, proven
from cyclegan_edge.export.to_tensorrt import (
    EngineConfig,
    Report,
    build_engine,
    graph_precision_needed,
    tensorrt_version,
    user_timing_caches,
    why_missing,
)
from cyclegan_edge.export.verify import Judge, Run, pairs_of, refuse
from cyclegan_edge.files import atomic_file, sha256


def default_shapes(
    size: int, multiple: int = MULTIPLE
) -> tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]:
    """(N, H, W) of the smallest, the best and the largest input of an engine for a model trained at `size` px.

    Best is a 16:9 camera frame fitted to the model; half and double that are there for speed and for sharpness.
    """
    wide = round(size * 16 / 9 / multiple) * multiple
    half = max(1, size // 2 // multiple) * multiple
    return (1, half, half), (1, size, wide), (1, 2 * size, 2 * wide)


def add_engine(
    folder: Path,
    *,
    precision: Precision = "fp16",
    report: Report | None = None,
    judge: Judge = refuse,
) -> Bundle:
    """Build an engine from the bundle's graph, compare it with the float32 graph on rendered pictures, and add it.

    Raises EngineError when TensorRT or a GPU is missing, BundleError when the bundle lacks the graph that this TensorRT
    needs. `judge` hears when the engine cannot be built or is out of bounds; it is not kept then.
    """
    version = tensorrt_version()
    if version is None:
        raise EngineError(why_missing())
    bundle = read_bundle(folder)
    needed = graph_precision_needed(version, precision)
    graph = bundle.artifact("onnx", needed)
    if graph is None:
        raise BundleError(
            f"{folder} holds no {needed} graph, which TensorRT {version} needs; export it again with --fp16."
        )
    size = bundle.manifest.size
    shapes = default_shapes(size, bundle.manifest.multiple)
    config = EngineConfig(shapes=shapes, precision=precision, timing_caches=user_timing_caches())
    source, file = bundle.path(graph), f"generator-{precision}.engine"

    def make(stage: Bundle) -> tuple[Artifact, Run]:
        built = build_engine(source, config, report=report)
        path = stage.folder / file
        with atomic_file(path) as partial:
            partial.write_bytes(built.plan)
        engine = Artifact(
            file=file,
            format="tensorrt",
            precision=precision,
            sha256=sha256(path),
            device=built.device,
            shapes=built.shapes,
        )
        return engine, TrtBackend(stage.with_artifact(engine), precision=precision).run

    grown = proven(bundle, file, make, pairs_of(OrtBackend(bundle).run, landscapes(bundle)), judge)
    if grown != bundle:
        write_manifest(folder, grown.manifest)
    return grown
