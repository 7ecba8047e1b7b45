"""What every converted file goes through before a bundle names it."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cyclegan_edge.backends.onnxruntime import OnnxRuntimeBackend
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.errors import EngineError, ExportError
from cyclegan_edge.export.verify import (
    BOUNDS,
    Judge,
    Pair,
    Picture,
    Run,
    Verdict,
    judged,
    pairs_of,
    refuse,
    stored_pairs,
)
from cyclegan_edge.scenes import render

Make = Callable[[Bundle], tuple[Artifact, Run]]  # writes into the folder of that bundle, and opens what it wrote

_COMPARED = 8  # rendered landscapes, where no pictures of the run are at hand


def at_hand(bundle: Bundle) -> list[Pair]:
    """What to compare on when there is only the bundle: the pictures in it with PyTorch's translations, and rendered
    landscapes with those of its float32 graph. Raises BundleError when a file is damaged or missing."""
    return [*stored_pairs(bundle), *pairs_of(OnnxRuntimeBackend(bundle).run, landscapes(bundle))]


def landscapes(bundle: Bundle) -> list[Picture]:
    """Rendered pictures: (S, S, 3) uint8 each, S the size that the model was trained at."""
    size = bundle.manifest.size
    return [render(seed, "summer", size=(size, size)) for seed in range(_COMPARED)]


def proven(bundle: Bundle, file: str, make: Make, pairs: Sequence[Pair], judge: Judge = refuse) -> Bundle:
    """The bundle with what `make` writes, once that is within the bound of its precision on `pairs`.

    `judge` hears what came of it. What failed is deleted, older files of the same name stay as they are, and the bundle
    comes back as it was; the usual judge raises ExportError instead.
    """
    with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=bundle.folder) as folder:
        stage = Bundle(Path(folder), bundle.manifest)
        try:
            artifact, found = make(stage)
            artifact = _weighed(stage.folder, artifact)
            verdict = judged(artifact.file, found, pairs, bound=BOUNDS[artifact.precision])
        except (EngineError, ExportError) as error:
            judge(Verdict(file=file, outcome="failed", reason=str(error)))
            return bundle
        if verdict.outcome == "failed":
            judge(replace(verdict, reason=f"{verdict.reason}; it was not kept."))
            return bundle
        judge(replace(verdict, bytes=sum(part.bytes or 0 for part in artifact.files())))
        for path in stage.folder.iterdir():
            path.replace(bundle.folder / path.name)
    return bundle.with_artifact(replace(artifact, parity=verdict.parity))


def _weighed(folder: Path, artifact: Artifact) -> Artifact:
    """The artifact with the length of each of its files."""
    own, *parts = (replace(part, bytes=(folder / part.file).stat().st_size) for part in artifact.files())
    return replace(artifact, bytes=own.bytes, parts=tuple(parts))
