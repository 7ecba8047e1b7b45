"""What is good moves into the bundle; what is not is deleted, whether the judge raises or lets the export go on."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.bundle import MANIFEST, Artifact, Bundle, read_bundle
from cyclegan_edge.contract import GraphPrecision
from cyclegan_edge.errors import EngineError, ExportError
from cyclegan_edge.export.interfaces import as_rgb
from cyclegan_edge.export.proof import landscapes, proven
from cyclegan_edge.export.verify import Run, Verdict, pairs_of
from cyclegan_edge.files import sha256

FILE = "generator-fp16.onnx"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def make(stage: Bundle, precision: GraphPrecision = "fp16") -> tuple[Artifact, Run]:
    """The graph that inverts colours, once more."""
    path = stage.folder / f"generator-{precision}.onnx"
    shutil.copyfile(stage.folder.parent / "generator-fp32.onnx", path)
    artifact = Artifact(file=path.name, format="onnx", precision=precision, sha256=sha256(path))
    return artifact, as_rgb(path)  # all of it is float32, whatever it is called


def inverted(images: np.ndarray) -> np.ndarray:
    return 255 - images


def names(bundle: Bundle) -> list[str]:
    return sorted(path.name for path in bundle.folder.iterdir())


def test_what_is_good_moves_in_with_its_numbers_and_length(bundle: Bundle) -> None:
    heard: list[Verdict] = []

    grown = proven(bundle, FILE, make, pairs_of(inverted, landscapes(bundle)), heard.append)

    artifact = grown.artifact("onnx", "fp16")
    assert artifact is not None
    assert artifact.bytes == (bundle.folder / FILE).stat().st_size
    assert artifact.parity is not None
    assert (artifact.parity.images, artifact.parity.height, artifact.parity.max_levels) == (8, 32, 0)
    assert grown.path(artifact) == bundle.folder / FILE
    assert names(bundle) == [FILE, "generator-fp16.onnx", "generator-fp32.onnx", MANIFEST]
    assert [(it.file, it.outcome, it.bytes) for it in heard] == [(FILE, "good", artifact.bytes)]


def test_what_is_out_of_bounds_is_deleted_and_older_files_stay(bundle: Bundle) -> None:
    pairs = pairs_of(lambda images: images, landscapes(bundle))
    heard: list[Verdict] = []
    (bundle.folder / FILE).write_bytes(b"older")

    same = proven(bundle, FILE, make, pairs, heard.append)

    assert same == bundle
    assert (bundle.folder / FILE).read_bytes() == b"older"
    assert names(bundle) == [FILE, "generator-fp16.onnx", "generator-fp32.onnx", MANIFEST]
    assert [(it.file, it.outcome) for it in heard] == [(FILE, "failed")]
    assert heard[0].parity is not None
    assert heard[0].reason.endswith("(8 pictures); it was not kept.")
    with pytest.raises(ExportError, match=r"generator-fp16\.onnx differs from PyTorch .*; it was not kept"):
        proven(bundle, FILE, make, pairs)


@pytest.mark.parametrize("kind", [EngineError, ExportError])
def test_what_cannot_be_made_or_opened_is_heard_with_its_sentence(kind: type[Exception], bundle: Bundle) -> None:
    def broken(stage: Bundle) -> tuple[Artifact, Run]:
        (stage.folder / FILE).write_bytes(b"half")
        raise kind("The converter is not there.")

    heard: list[Verdict] = []

    same = proven(bundle, FILE, broken, [], heard.append)

    assert same == bundle
    assert heard == [Verdict(file=FILE, outcome="failed", reason="The converter is not there.")]
    assert names(bundle) == ["generator-fp16.onnx", "generator-fp32.onnx", MANIFEST]


def test_the_bound_is_that_of_the_precision(bundle: Bundle) -> None:
    pairs = pairs_of(lambda images: np.clip(254 - images.astype(int), 0, 255).astype(np.uint8), landscapes(bundle))

    with pytest.raises(ExportError, match=r"48\.1 dB from PyTorch, expected at least 60"):
        proven(bundle, "generator-fp32.onnx", lambda stage: make(stage, "fp32"), pairs)
    with pytest.raises(ExportError, match=r"48\.1 dB from PyTorch, expected at least 50"):
        proven(bundle, "generator-fp16.onnx", lambda stage: make(stage, "fp16"), pairs)
    proven(bundle, FILE, make, pairs)
