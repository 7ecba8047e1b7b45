"""A checkpoint becomes a bundle, the one order of things; a bundle gets one more file in the same way.

    open the generator -> pairs of pictures and PyTorch's translations -> each `Target`: make it, open it, compare it
    -> manifest -> commit

What is made lies in a stage inside the bundle's folder until its manifest is committed with it: after a kill at any
moment the bundle is the old one or the new one (`cyclegan_edge.commit`). Adding a file needs no torch.
"""

import contextlib
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cyclegan_edge.bounds import BOUNDS, Pair, pairs_of
from cyclegan_edge.bundle import Artifact, Bundle, Manifest, Part, Reference, read_bundle, write_manifest
from cyclegan_edge.commit import commit, locked, open_stage, remove_dead_stages
from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import BundleError, DataError, EngineError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.formats import Target
from cyclegan_edge.export.parity import (
    OnVerdict,
    Verdict,
    compare,
    fallback_pairs,
    load_pictures,
    open_artifact,
    raise_failed,
    render_pictures,
)
from cyclegan_edge.files import sha256
from cyclegan_edge.images import list_images, write_image
from cyclegan_edge.train.data.layout import find_folder

if TYPE_CHECKING:
    from cyclegan_edge.export.weights.open import Trained

Say = Callable[[str], None]  # called with one line about each thing that was done

_REFERENCES = 3  # pictures that travel with the bundle
_OURS = ("generator-*", "reference-*")  # names of files that an export may delete when its manifest does not name them


def export_checkpoint(
    checkpoint: Path,
    folder: Path,
    config: ExportConfig,
    *,
    say: Say = lambda line: None,
    on_verdict: OnVerdict = raise_failed,
) -> Bundle:
    """Write `folder` as a bundle of the checkpoint's generator; an older bundle there is replaced only by a whole one.

    When `on_verdict` does not raise, the bundle is written without the files that failed; never without the float32
    graph, though.

    Raises CheckpointError for the checkpoint, DataError for the pictures, and by the usual `on_verdict` ExportError
    when a file cannot be made or is out of bounds.
    """
    from cyclegan_edge.export.formats import int8, ncnn, onnx
    from cyclegan_edge.export.weights.open import open_generator
    from cyclegan_edge.train.evaluate.picture_generator import translate_with

    if config.ncnn:
        ncnn.find_pnnx()  # before anything slow is done, as here
    with _stage_in(folder):
        pass  # it can be written
    trained = open_generator(checkpoint, config.direction)
    if trained.description:
        say(f"{checkpoint.name}: {trained.description}.")
    if trained.note:
        say(trained.note)
    onnx.check_fixed(config.fixed, trained.multiple)
    pictures, where = _pictures(trained, config)
    say(f"Direction {trained.direction}, comparing on {len(pictures)} {where}, {trained.size} px.")
    pairs = pairs_of(translate_with(trained.generator), pictures)
    graphs = (onnx.graph_target(trained.generator, graph, pairs) for graph in onnx.wanted_graphs(config))
    conversions = (ncnn.ncnn_target(precision) for precision in config.precisions if config.ncnn)
    calibration = _calibration(trained, config) if config.int8 else None
    eight_bits = [int8.int8_target(calibration, translate_with(trained.generator))] if calibration else []
    targets = chain(graphs, conversions, eight_bits)
    return write_bundle(folder, _manifest(folder.name, trained), targets, pairs, on_verdict)


def write_bundle(
    folder: Path, manifest: Manifest, targets: Iterable[Target], pairs: Sequence[Pair], on_verdict: OnVerdict
) -> Bundle:
    """Make a bundle of `manifest`, of the targets that are good, and of some of the pairs; see `export_checkpoint`."""
    with _stage_in(folder) as stage:
        bundle = Bundle(stage, manifest)
        for target in targets:
            bundle = stage_and_check(bundle, target, pairs, stage, on_verdict)
        whole = replace(bundle.manifest, references=_write_references(stage, pairs))
        return _commit(stage, lambda: whole)


def add_to_bundle(bundle: Bundle, targets: Iterable[Target], on_verdict: OnVerdict = raise_failed) -> Bundle:
    """Make each of `targets` from what the bundle holds, and add those that are good; older files stay otherwise.

    Raises BundleError when the bundle is damaged, or was exported anew meanwhile, and what `on_verdict` raises.
    """
    pairs = fallback_pairs(bundle)
    with _stage_in(bundle.folder) as stage:
        grown = bundle
        for target in targets:
            grown = stage_and_check(grown, target, pairs, stage, on_verdict)
        added = [artifact for artifact in grown.manifest.artifacts if artifact not in bundle.manifest.artifacts]

        def merged() -> Manifest:
            now = read_bundle(bundle.folder)  # another process may have added a file
            if not _has_graphs_of(now.manifest, bundle.manifest):
                raise BundleError(f"{bundle.folder} was exported anew meanwhile, so nothing was added; type it again.")
            for artifact in added:
                now = now.with_artifact(artifact)
            return now.manifest

        return _commit(stage, merged) if added else bundle


@contextlib.contextmanager
def _stage_in(folder: Path) -> Iterator[Path]:
    """`open_stage`, with a full disk and missing rights as a sentence."""
    try:
        with open_stage(folder) as stage:
            yield stage
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be written ({error.strerror or error}); what was there has stayed. Check its rights and "
            f"the free space, then export again."
        ) from error


def stage_and_check(
    bundle: Bundle, target: Target, pairs: Sequence[Pair], stage: Path, on_verdict: OnVerdict
) -> Bundle:
    """The bundle with `target`, whose files are in `stage` once it is within the bound of its precision, or for another
    machine than this.

    When it fails and `on_verdict` does not raise, nothing is left in `stage` and the bundle comes back as it was.
    Raises ExportError when a required target fails.
    """
    with tempfile.TemporaryDirectory(dir=stage) as name:
        made = Path(name)
        try:
            artifact = _with_lengths(made, target.make(bundle, made))
            if reason := target.why_not_here(artifact):
                verdict = Verdict(file=artifact.file, outcome="skipped", reason=reason)
            else:
                _, translate = open_artifact(Bundle(made, bundle.manifest), artifact)
                pairs = pairs if target.pairs is None else target.pairs
                verdict = compare(artifact.file, translate, pairs, bound=BOUNDS[target.precision])
        except (EngineError, ExportError) as error:
            verdict = Verdict(file=target.file, outcome="failed", reason=str(error), layers=tuple(target.layers))
        else:
            if verdict.outcome == "failed":
                verdict = replace(verdict, reason=f"{verdict.reason}; it was not kept.", layers=tuple(target.layers))
            else:
                verdict = replace(verdict, bytes=sum(part.bytes or 0 for part in artifact.files()))
        on_verdict(verdict)
        if target.required:
            raise_failed(verdict)
        if verdict.outcome == "failed":
            return bundle
        for part in artifact.files():
            (made / part.file).replace(stage / part.file)
    return bundle.with_artifact(replace(artifact, parity=verdict.parity))


def _commit(stage: Path, manifest_now: Callable[[], Manifest]) -> Bundle:
    """Let the staged files and the manifest that names them take effect together, and delete what it does not name."""
    folder = stage.parent
    with locked(folder):
        manifest = manifest_now()
        write_manifest(stage, manifest)
        commit(stage)
        named = {part.file for part in manifest.files()}
        for path in (path for pattern in _OURS for path in folder.glob(pattern) if path.name not in named):
            path.unlink()
        remove_dead_stages(folder)
    return read_bundle(folder)


def _has_graphs_of(now: Manifest, before: Manifest) -> bool:
    """Whether what a conversion of `before` was made from is still there."""
    graphs = {artifact for artifact in before.artifacts if artifact.format == "onnx"}
    return replace(now, artifacts=()) == replace(before, artifacts=()) and graphs <= {*now.artifacts}


def _with_lengths(folder: Path, artifact: Artifact) -> Artifact:
    """The artifact with the length of each of its files."""
    own, *parts = (replace(part, bytes=(folder / part.file).stat().st_size) for part in artifact.files())
    return replace(artifact, bytes=own.bytes, parts=tuple(parts))


def _write_references(folder: Path, pairs: Sequence[Pair]) -> tuple[Reference, ...]:
    """Store some of the pairs, spread over all, as PNG files of `folder`."""
    chosen = [pairs[index] for index in np.linspace(0, len(pairs) - 1, min(_REFERENCES, len(pairs))).astype(int)]
    return tuple(
        Reference(
            picture=_write_part(folder / f"reference-{number}.png", picture),
            translated=_write_part(folder / f"reference-{number}-translated.png", translated),
        )
        for number, (picture, translated) in enumerate(chosen, start=1)
    )


def _write_part(path: Path, picture: Picture) -> Part:
    write_image(path, picture)
    return Part(file=path.name, sha256=sha256(path), bytes=path.stat().st_size)


def _pictures(trained: "Trained", config: ExportConfig) -> tuple[list[Picture], str]:
    """Pictures to compare on, and where they are from."""
    domain = trained.direction[0].upper()
    names = ",".join(trained.domains or ())
    own = [find_folder(trained.data, f"{split}{domain}", names) for split in ("test", "train")] if trained.data else []
    for folder in [config.pictures] if config.pictures else own:
        if folder and folder.is_dir() and list_images(folder):
            return load_pictures(folder, size=trained.size, most=config.compare), f"pictures of {folder}"
    if config.pictures:
        raise DataError(f"{config.pictures} holds no pictures to compare on; name a folder with JPEG or PNG files.")
    rendered = render_pictures(trained.size, config.compare)
    return rendered, "rendered landscapes" + (f", as {trained.data} is not there" if trained.data else "")


def _calibration(trained: "Trained", config: ExportConfig) -> list[Picture]:
    """Pictures to find the ranges of int8 on. Raises ConfigError where neither the run nor the user has any."""
    from cyclegan_edge.export.formats.int8 import load_calibration

    names = ",".join(trained.domains or ())
    own = find_folder(trained.data, f"train{trained.direction[0].upper()}", names) if trained.data else None
    return load_calibration(config.calibrate or own, trained.size)


def _manifest(name: str, trained: "Trained") -> Manifest:
    packages = ("cyclegan-edge", "torch", "onnx", "onnxscript", "onnxruntime")
    return Manifest(
        name=name,
        direction=trained.direction,
        size=trained.size,
        architecture=dict(trained.architecture),
        source=trained.source,
        artifacts=(),
        versions={"python": platform.python_version(), **{package: version(package) for package in packages}},
        multiple=trained.multiple,
        domains=trained.domains,
    )
