"""A checkpoint becomes a bundle: every graph written, proven on real pictures, hashed, and moved into place at once."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cyclegan_edge.bundle import Bundle, Manifest, Part, Reference, read_bundle, write_manifest
from cyclegan_edge.contract import GraphPrecision
from cyclegan_edge.errors import DataError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.to_onnx import reference
from cyclegan_edge.export.variants import Variant, check_fixed, with_variant, with_variants
from cyclegan_edge.export.verify import Judge, Pair, Picture, Verdict, load_pictures, pairs_of, refuse
from cyclegan_edge.export.weights.open import Trained, open_generator
from cyclegan_edge.files import atomic_folder, sha256
from cyclegan_edge.images import list_images, write_image
from cyclegan_edge.scenes import render

Report = Callable[[str], None]  # hears one line about each thing that was done

_REFERENCES = 3  # pictures that travel with the bundle


def export_checkpoint(
    checkpoint: Path,
    folder: Path,
    config: ExportConfig,
    *,
    report: Report = lambda line: None,
    judge: Judge = refuse,
) -> Bundle:
    """Write `folder` as a bundle of the checkpoint's generator; an older bundle there is replaced only by a whole one.

    `judge` hears what came of each file. When it does not raise, the bundle is written without those that failed; never
    without the float32 graph, though.

    Raises CheckpointError for the checkpoint, DataError for the pictures, and by the usual judge ExportError when a
    file cannot be made or is out of bounds.
    """
    _check_tools(config)
    trained = open_generator(checkpoint, config.direction)
    if trained.description:
        report(f"{checkpoint.name}: {trained.description}.")
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
        pairs = pairs_of(reference(trained.generator), pictures)
        for precision in _graphs(config):
            heard = _insisting(judge) if precision == "fp32" else judge
            bundle = with_variant(bundle, trained.generator, Variant(precision), pairs, heard)
        bundle = with_variants(bundle, trained.generator, config, pairs, judge)
        bundle = _convert(bundle, config, pairs, judge)
        references = _write_references(partial, pairs)
        write_manifest(partial, replace(bundle.manifest, references=references))
    return read_bundle(folder)


def _insisting(judge: Judge) -> Judge:
    """For what a bundle cannot be without: `judge` hears of it, and a failure is then raised."""

    def judged(verdict: Verdict) -> None:
        judge(verdict)
        refuse(verdict)

    return judged


def _write_references(folder: Path, pairs: Sequence[Pair]) -> tuple[Reference, ...]:
    """Store some of the pairs, spread over all, as PNG files of `folder`."""
    chosen = [pairs[index] for index in np.linspace(0, len(pairs) - 1, min(_REFERENCES, len(pairs))).astype(int)]
    return tuple(
        Reference(
            picture=_written(folder / f"reference-{number}.png", picture),
            translated=_written(folder / f"reference-{number}-translated.png", translated),
        )
        for number, (picture, translated) in enumerate(chosen, start=1)
    )


def _written(path: Path, picture: Picture) -> Part:
    write_image(path, picture)
    return Part(file=path.name, sha256=sha256(path), bytes=path.stat().st_size)


def _check_tools(config: ExportConfig) -> None:
    """Refuse before anything slow is done."""
    if config.ncnn:
        from cyclegan_edge.export.to_ncnn import find_pnnx

        find_pnnx()


def _convert(bundle: Bundle, config: ExportConfig, pairs: Sequence[Pair], judge: Judge) -> Bundle:
    """Add what other engines than those of ONNX graphs run; their packages are needed only then."""
    if config.ncnn:
        from cyclegan_edge.export.to_ncnn import with_ncnn

        for precision in _graphs(config):
            bundle = with_ncnn(bundle, precision, pairs, judge)
    return bundle


def _graphs(config: ExportConfig) -> tuple[GraphPrecision, ...]:
    return ("fp32", "fp16") if config.fp16 else ("fp32",)


def _pictures(trained: Trained, config: ExportConfig) -> tuple[list[Picture], str]:
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
