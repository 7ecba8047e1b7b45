"""A bundle gets its TensorRT engine, on the device that will run it and without torch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cyclegan_edge.backends.tensorrt.build import (
    EngineConfig,
    EngineOptions,
    OnProgress,
    Shapes,
    build_engine,
    graph_precision_needed,
    user_timing_caches,
)
from cyclegan_edge.backends.tensorrt.library import load_tensorrt
from cyclegan_edge.bundle import Artifact, Bundle, Manifest, read_bundle
from cyclegan_edge.contract import MULTIPLE, GraphPrecision
from cyclegan_edge.errors import BundleError, ConfigError
from cyclegan_edge.export.formats import Target
from cyclegan_edge.export.parity import OnVerdict, raise_failed
from cyclegan_edge.export.pipeline import add_to_bundle
from cyclegan_edge.files import sha256


def default_shapes(size: int, multiple: int = MULTIPLE) -> Shapes:
    """(N, H, W) of the smallest, the best and the largest input of an engine for a model trained at `size` px.

    Best is a 16:9 camera frame fitted to the model; half and double that are there for speed and for sharpness.
    """
    wide = round(size * 16 / 9 / multiple) * multiple
    half = max(1, size // 2 // multiple) * multiple
    return (1, half, half), (1, size, wide), (1, 2 * size, 2 * wide)


def engine_shapes(model: Manifest, sizes: Sequence[tuple[int, int]] = (), max_batch: int = 1) -> Shapes:
    """(N, H, W) of the smallest, the best and the largest input of an engine for `sizes`, (H, W) in px.

    It takes whatever lies between those, and is to be fastest at the first. None: `default_shapes`.
    Raises ConfigError for a size that the model does not take.
    """
    if not sizes:
        smallest, best, (_, height, width) = default_shapes(model.size, model.multiple)
        return smallest, best, (max_batch, height, width)
    check_sizes(sizes, model.multiple)
    heights, widths = zip(*sizes, strict=True)
    return (1, min(heights), min(widths)), (1, *sizes[0]), (max_batch, max(heights), max(widths))


def check_sizes(sizes: Sequence[tuple[int, int]], multiple: int = MULTIPLE) -> None:
    """Raise ConfigError unless every side of `sizes`, (H, W) in px, is a multiple of `multiple`."""
    for height, width in sizes:
        if height % multiple or width % multiple:
            fitting = [max(1, round(side / multiple)) * multiple for side in (width, height)]
            raise ConfigError(
                f"engine-size is {width}x{height}, but the model takes multiples of {multiple}; "
                f"try {fitting[0]}x{fitting[1]}."
            )


def add_engine(
    folder: Path,
    *,
    precision: GraphPrecision = "fp16",
    sizes: Sequence[tuple[int, int]] = (),
    max_batch: int = 1,
    options: EngineOptions = EngineOptions(),  # noqa: B008  # frozen
    on_progress: OnProgress | None = None,
    on_verdict: OnVerdict = raise_failed,
) -> Bundle:
    """Build an engine from the bundle's graph, compare it with PyTorch and with the float32 graph, and add it.

    sizes        (H, W) in px that it is built for, the first the one to be fastest at; none: around the model's own
    max_batch    pictures that it takes at once

    Raises EngineError when TensorRT or a GPU is missing, BundleError when the bundle lacks the graph that this TensorRT
    needs, ConfigError for sizes that the model does not take. `on_verdict` is called when it cannot be built or is out
    of bounds; it is not kept then, and an older engine stays.
    """
    version = str(load_tensorrt().__version__)
    bundle = read_bundle(folder)
    shapes = engine_shapes(bundle.manifest, sizes, max_batch)
    needed = graph_precision_needed(version, precision)
    graph = bundle.artifact("onnx", needed)
    if graph is None:
        raise BundleError(
            f"{folder} holds no {needed} graph, which TensorRT {version} needs; export it again with --{needed}."
        )
    config = EngineConfig(**asdict(options), shapes=shapes, precision=precision, timing_caches=user_timing_caches())
    source, file = bundle.path(graph), f"generator-{precision}.engine"

    def make(_: Bundle, into: Path) -> Artifact:
        built = build_engine(source, config, on_progress=on_progress)
        path = into / file
        path.write_bytes(built.plan)
        return Artifact(
            file=file,
            format="tensorrt",
            precision=precision,
            sha256=sha256(path),
            device=built.device,
            shapes=built.shapes,
        )

    return add_to_bundle(bundle, [Target(file=file, precision=precision, make=make)], on_verdict)


def rebuild_engine(
    folder: Path,
    precision: GraphPrecision,
    *,
    on_progress: OnProgress | None = None,
    on_verdict: OnVerdict = raise_failed,
) -> Bundle:
    """Build the engine of `precision` again, for the same sizes; see `add_engine`."""
    engine = read_bundle(folder).artifact("tensorrt", precision)
    if engine is None or len(engine.shapes) != 3:
        return add_engine(folder, precision=precision, on_progress=on_progress, on_verdict=on_verdict)
    smallest, best, largest = engine.shapes
    return add_engine(
        folder,
        precision=precision,
        sizes=[(height, width) for _, height, width in (best, smallest, largest)],
        max_batch=largest[0],
        on_progress=on_progress,
        on_verdict=on_verdict,
    )
