"""A checkpoint becomes a bundle: every graph written, proven on real pictures, hashed, and moved into place at once."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from cyclegan_edge.backends.ort import OrtBackend
from cyclegan_edge.bundle import Artifact, Bundle, Manifest, Precision, read_bundle, write_manifest
from cyclegan_edge.errors import DataError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.importer import Trained, open_generator
from cyclegan_edge.export.to_onnx import reference, write_onnx
from cyclegan_edge.export.variants import check_fixed, with_variants
from cyclegan_edge.export.verify import BOUND_LEVELS, load_pictures, measure, require
from cyclegan_edge.files import atomic_folder, sha256
from cyclegan_edge.images import list_images
from cyclegan_edge.scenes import render

Report = Callable[[str], None]  # hears one line about each thing that was done


def export_checkpoint(
    checkpoint: Path, folder: Path, config: ExportConfig, *, report: Report = lambda line: None
) -> Bundle:
    """Write `folder` as a bundle of the checkpoint's generator; an older bundle there is replaced only by a whole one.

    Raises CheckpointError for the checkpoint, DataError for the pictures, ExportError when a graph cannot be made or
    differs from PyTorch by more than its bound.
    """
    _check_tools(config)
    trained = open_generator(checkpoint, config.direction)
    if trained.found:
        report(f"{checkpoint.name}: {', '.join(trained.found)}.")
    check_fixed(config.fixed, trained.multiple)
    pictures, where = _pictures(trained, config)
    report(f"Direction {trained.direction}, comparing on {len(pictures)} {where}, {trained.size} px.")
    with atomic_folder(folder) as partial:
        bundle = Bundle(
            partial,
            Manifest(
                name=folder.name,
                direction=trained.direction,
                size=trained.size,
                architecture=dict(trained.architecture),
                source=trained.source,
                artifacts=(),
                versions=_versions(),
                multiple=trained.multiple,
                domains=trained.domains,
            ),
        )
        for precision in _graphs(config):
            bundle = _add_graph(bundle, trained.generator, precision, pictures, report)
        bundle = with_variants(bundle, trained.generator, config, pictures, report)
        bundle = _convert(bundle, trained.generator, config, pictures, report)
        write_manifest(partial, bundle.manifest)
    return read_bundle(folder)


def _add_graph(
    bundle: Bundle,
    generator: nn.Module,
    precision: Precision,
    pictures: Sequence[npt.NDArray[np.uint8]],
    report: Report,
) -> Bundle:
    """Write one graph, compare it with PyTorch as a device would run it, and add it to the bundle."""
    path = bundle.folder / f"generator-{precision}.onnx"
    write_onnx(generator, path, precision=precision, multiple=bundle.manifest.multiple)
    graph = Artifact(file=path.name, format="onnx", precision=precision, sha256=sha256(path))
    backend = OrtBackend(bundle.with_artifact(graph), precision=precision)
    parity = measure(reference(generator), backend.run, pictures, bound_levels=BOUND_LEVELS[precision])
    require(parity, path.name)
    report(
        f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, at most {parity.max_levels} of 255 levels from PyTorch "
        f"({parity.psnr_db:.1f} dB, mean {parity.mean_levels:.4f})."
    )
    return bundle.with_artifact(replace(graph, parity=parity))


def _check_tools(config: ExportConfig) -> None:
    """Refuse before anything slow is done."""
    if config.ncnn:
        from cyclegan_edge.export.to_ncnn import find_pnnx

        find_pnnx()


def _convert(
    bundle: Bundle,
    generator: nn.Module,
    config: ExportConfig,
    pictures: Sequence[npt.NDArray[np.uint8]],
    report: Report,
) -> Bundle:
    """Add what other engines than those of ONNX graphs run; their packages are needed only then."""
    expected = reference(generator)
    if config.ncnn:
        from cyclegan_edge.export.to_ncnn import with_ncnn

        for precision in _graphs(config):
            bundle = with_ncnn(bundle, precision, expected, pictures, report)
    if config.pt2:
        from cyclegan_edge.export.to_pt2 import precisions, with_pt2

        for precision in precisions(bf16=config.bf16):
            bundle = with_pt2(bundle, generator, precision, expected, pictures, report)
    return bundle


def _graphs(config: ExportConfig) -> tuple[Precision, ...]:
    return ("fp32", "fp16") if config.fp16 else ("fp32",)


def _pictures(trained: Trained, config: ExportConfig) -> tuple[list[npt.NDArray[np.uint8]], str]:
    """Pictures to compare on, and where they are from."""
    domain = trained.direction[0].upper()
    own = [trained.data / f"test{domain}", trained.data / f"train{domain}"] if trained.data else []
    for folder in [config.pictures] if config.pictures else own:
        if folder.is_dir() and list_images(folder):
            return load_pictures(folder, size=trained.size, most=config.compare), f"pictures of {folder}"
    if config.pictures:
        raise DataError(f"{config.pictures} holds no pictures to compare on; name a folder with JPEG or PNG files.")
    scenes = [render(seed, "summer", size=(trained.size, trained.size)) for seed in range(config.compare)]
    return scenes, "rendered landscapes" + (f", as {trained.data} is not there" if trained.data else "")


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("cyclegan-edge", "torch", "onnx", "onnxscript", "onnxruntime")}
    return {"python": platform.python_version(), **packages}
