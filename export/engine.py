"""A bundle gets its TensorRT engine, on the device that will run it and without torch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cyclegan_edge.backends.ort import OrtBackend
from cyclegan_edge.backends.trt import TrtBackend
from cyclegan_edge.bundle import MULTIPLE, Artifact, Bundle, Precision, read_bundle, write_manifest
from cyclegan_edge.errors import BundleError, EngineError
from cyclegan_edge.export.to_tensorrt import (
    EngineConfig,
    Report,
    build_engine,
    graph_precision_needed,
    tensorrt_version,
    user_timing_caches,
    why_missing,
)
from cyclegan_edge.export.verify import BOUND_LEVELS, measure, require
from cyclegan_edge.files import atomic_file, sha256
from cyclegan_edge.scenes import render

_COMPARED = 8  # rendered landscapes


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
    say: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """Build an engine from the bundle's graph, compare it with the float32 graph on rendered pictures, and add it.

    Raises EngineError when TensorRT or a GPU is missing, BundleError when the bundle lacks the graph that this TensorRT
    needs, ExportError when the engine cannot be built or differs by more than its bound; it is not kept then.
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
    built = build_engine(bundle.path(graph), config, report=report)
    path = folder / f"generator-{precision}.engine"
    with atomic_file(path) as partial:
        partial.write_bytes(built.plan)
    engine = Artifact(
        file=path.name,
        format="tensorrt",
        precision=precision,
        sha256=sha256(path),
        device=built.device,
        shapes=built.shapes,
    )
    pictures = [render(seed, "summer", size=(size, size)) for seed in range(_COMPARED)]
    try:
        backend = TrtBackend(bundle.with_artifact(engine), precision=precision)
        parity = measure(OrtBackend(bundle).run, backend.run, pictures, bound_levels=BOUND_LEVELS[precision])
        require(parity, path.name)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    say(
        f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, at most {parity.max_levels} of 255 levels from the float32 "
        f"graph ({parity.psnr_db:.1f} dB)."
    )
    proven = bundle.with_artifact(replace(engine, parity=parity))
    write_manifest(folder, proven.manifest)
    return proven
