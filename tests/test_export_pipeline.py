"""A checkpoint becomes a bundle: what is good moves in together with its manifest, and what is not is deleted."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cyclegan_edge.backends.onnxruntime import OnnxRuntimeBackend
from cyclegan_edge.bounds import Pair, pairs_of, reference_pairs
from cyclegan_edge.bundle import MANIFEST, Artifact, Bundle, read_bundle
from cyclegan_edge.contract import GraphPrecision, Translate
from cyclegan_edge.errors import BundleError, CheckpointError, DataError, EngineError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.formats import Make, Target
from cyclegan_edge.export.parity import Verdict, load_pictures, raise_failed, render_pictures
from cyclegan_edge.export.pipeline import add_to_bundle, export_checkpoint, stage_and_check, write_bundle
from cyclegan_edge.export.weights.open import open_generator
from cyclegan_edge.files import sha256
from cyclegan_edge.train.evaluate.picture_generator import translate_with

FULL, HALF = "generator-fp32.onnx", "generator-fp16.onnx"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    (tmp_path / "stage").mkdir()
    return tmp_path / "stage"


def copy(bundle: Bundle, folder: Path, precision: GraphPrecision = "fp16") -> Artifact:
    """The float32 graph of the bundle once more, whatever it is called."""
    path = folder / f"generator-{precision}.onnx"
    shutil.copyfile(bundle.folder / FULL, path)
    return Artifact(file=path.name, format="onnx", precision=precision, sha256=sha256(path))


def target(make: Make = copy, precision: GraphPrecision = "fp16") -> Target:
    return Target(file=f"generator-{precision}.onnx", precision=precision, make=make)


@pytest.fixture
def pairs(tiny_translated: Translate) -> list[Pair]:
    return pairs_of(tiny_translated, render_pictures(32))


def unchanged() -> list[Pair]:
    return pairs_of(lambda images: images, render_pictures(32))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_good_is_staged_with_its_numbers_and_length(bundle: Bundle, pairs: list[Pair], stage: Path) -> None:
    heard: list[Verdict] = []

    grown = stage_and_check(bundle, target(), pairs, stage, heard.append)

    artifact = grown.artifact("onnx", "fp16")
    assert artifact is not None
    assert artifact.bytes == (stage / HALF).stat().st_size
    assert artifact.parity is not None
    assert (artifact.parity.images, artifact.parity.height, artifact.parity.max_levels) == (8, 32, 0)
    assert names(stage) == [HALF]
    assert [(it.file, it.outcome, it.bytes) for it in heard] == [(HALF, "good", artifact.bytes)]


def test_what_is_out_of_bounds_is_deleted_and_the_bundle_stays(bundle: Bundle, stage: Path) -> None:
    other = unchanged()
    heard: list[Verdict] = []

    same = stage_and_check(bundle, target(), other, stage, heard.append)

    assert same == bundle
    assert names(stage) == []
    assert [(it.file, it.outcome) for it in heard] == [(HALF, "failed")]
    assert heard[0].parity is not None
    assert heard[0].reason.endswith("(8 pictures); it was not kept.")
    with pytest.raises(ExportError, match=r"generator-fp16\.onnx differs from PyTorch .*; it was not kept"):
        stage_and_check(bundle, target(), other, stage, raise_failed)


def test_without_what_is_required_there_is_no_bundle_whoever_listens(bundle: Bundle, stage: Path) -> None:
    with pytest.raises(ExportError, match="differs from PyTorch"):
        stage_and_check(bundle, replace(target(), required=True), unchanged(), stage, lambda verdict: None)


@pytest.mark.parametrize("kind", [EngineError, ExportError])
def test_what_cannot_be_made_or_opened_is_told_in_its_sentence(
    kind: type[Exception], bundle: Bundle, stage: Path
) -> None:
    def broken(_: Bundle, folder: Path) -> Artifact:
        (folder / HALF).write_bytes(b"half")
        raise kind("The converter is not there.")

    heard: list[Verdict] = []

    same = stage_and_check(bundle, target(broken), [], stage, heard.append)

    assert same == bundle
    assert heard == [Verdict(file=HALF, outcome="failed", reason="The converter is not there.")]
    assert names(stage) == []


def test_the_bound_is_that_of_the_precision(bundle: Bundle, tiny_translated: Translate, stage: Path) -> None:
    darker = pairs_of(lambda images: tiny_translated(images) - np.uint8(1), render_pictures(32))
    brighter = pairs_of(lambda images: tiny_translated(images) + np.uint8(1), render_pictures(32))

    def full(bundle: Bundle, folder: Path) -> Artifact:
        return copy(bundle, folder, "fp32")

    with pytest.raises(ExportError, match=r"48\.1 dB from PyTorch, expected at least 60"):
        stage_and_check(bundle, target(full, "fp32"), darker, stage, raise_failed)
    with pytest.raises(ExportError, match=r"48\.\d dB from PyTorch, expected at least 50"):
        stage_and_check(bundle, target(), brighter, stage, raise_failed)


def test_a_file_is_added_to_a_bundle_or_replaced_under_its_name(bundle: Bundle) -> None:
    before = {name: (bundle.folder / name).stat().st_ino for name in names(bundle.folder)}

    grown = add_to_bundle(bundle, [target()])

    assert read_bundle(bundle.folder) == grown
    artifact = grown.artifact("onnx", "fp16")
    assert artifact is not None
    assert artifact.parity is not None
    assert grown.path(artifact) == bundle.folder / HALF
    after = {name: (bundle.folder / name).stat().st_ino for name in names(bundle.folder)}
    assert after.keys() == before.keys() == {HALF, FULL, MANIFEST}
    assert after[HALF] != before[HALF]
    assert after[FULL] == before[FULL], "it was not touched"


def test_a_failed_addition_leaves_the_older_file(bundle: Bundle) -> None:
    def other(_: Bundle, folder: Path) -> Artifact:
        (folder / HALF).write_bytes(b"no graph")
        return Artifact(file=HALF, format="onnx", precision="fp16", sha256=sha256(folder / HALF))

    before = {name: (bundle.folder / name).read_bytes() for name in names(bundle.folder)}
    heard: list[Verdict] = []

    assert add_to_bundle(bundle, [target(other)], heard.append) == bundle

    assert [it.outcome for it in heard] == ["failed"]
    assert {name: (bundle.folder / name).read_bytes() for name in names(bundle.folder)} == before


def test_what_an_older_export_left_is_deleted_and_what_a_person_put_there_stays(bundle: Bundle) -> None:
    for name in ("generator-bf16.pt2", "reference-9.png", "notes.txt"):
        (bundle.folder / name).touch()

    add_to_bundle(bundle, [target()])

    assert names(bundle.folder) == [HALF, FULL, MANIFEST, "notes.txt"]


def test_a_full_disk_is_a_sentence_and_the_bundle_stays(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = {name: (bundle.folder / name).read_bytes() for name in names(bundle.folder)}
    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(ExportError, match=r"cannot be written \(No space left on device\); what was there has stayed"):
        add_to_bundle(bundle, [target()])

    assert {name: (bundle.folder / name).read_bytes() for name in names(bundle.folder)} == before


def test_two_additions_at_once_both_stay(bundle: Bundle) -> None:
    both_made = threading.Barrier(2, timeout=60)

    def add(file: str) -> None:
        def make(bundle: Bundle, folder: Path) -> Artifact:
            artifact = copy(bundle, folder)
            both_made.wait()
            (folder / artifact.file).rename(folder / file)
            return replace(artifact, file=file)

        add_to_bundle(bundle, [Target(file=file, precision="fp16", make=make)])

    files = ["generator-one.onnx", "generator-two.onnx"]
    threads = [threading.Thread(target=add, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {artifact.file for artifact in read_bundle(bundle.folder).manifest.artifacts} >= {*files}
    assert {*files} <= {*names(bundle.folder)}


def test_nothing_is_added_to_a_bundle_that_was_exported_anew_meanwhile(bundle: Bundle) -> None:
    def make(_: Bundle, folder: Path) -> Artifact:
        newer = replace(bundle.manifest, source=replace(bundle.manifest.source, step=2))
        write_bundle(bundle.folder, newer, [], [], raise_failed)
        return copy(bundle, folder)

    with pytest.raises(BundleError, match="was exported anew meanwhile, so nothing was added"):
        add_to_bundle(bundle, [target(make)])

    assert read_bundle(bundle.folder).manifest.source.step == 2


@pytest.fixture(scope="module")
def small(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The export of a checkpoint, in both precisions."""
    folder = tmp_path_factory.mktemp("models") / "small"
    return export_checkpoint(tiny_checkpoint, folder, ExportConfig(fp16=True))


def test_a_checkpoint_becomes_a_bundle_that_opens_and_says_where_it_is_from(small: Bundle) -> None:
    manifest = read_bundle(small.folder).manifest

    assert manifest == small.manifest
    assert (manifest.name, manifest.direction, manifest.size, manifest.source.step) == ("small", "ab", 32, 0)
    assert manifest.architecture == {
        "kind": "resnet",
        "width": 4,
        "blocks": 1,
        "dropout": False,
        "upsampling": "transposed",
    }
    assert [artifact.precision for artifact in manifest.artifacts] == ["fp32", "fp16"]
    assert all(artifact.parity and artifact.parity.images == 4 for artifact in manifest.artifacts)
    assert names(small.folder) == [
        HALF, FULL, MANIFEST,
        "reference-1-translated.png", "reference-1.png",
        "reference-2-translated.png", "reference-2.png",
        "reference-3-translated.png", "reference-3.png",
    ]  # fmt: skip
    image = np.zeros((1, 32, 32, 3), np.uint8)
    assert OnnxRuntimeBackend(small).run(image).shape == image.shape


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_a_generator_that_diverged_is_not_exported(value: float, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Weights of 1e38 are finite, and what they make is not."""
    content = torch.load(tiny_checkpoint, weights_only=True)
    weights = content["networks"]["generator_ab"]
    first = next(weight for weight in weights.values() if weight.ndim == 4)
    first.fill_(value)
    torch.save(content, tmp_path / "diverged.pt")

    with pytest.raises(CheckpointError, match="its training diverged"):
        export_checkpoint(tmp_path / "diverged.pt", tmp_path / "out", ExportConfig(compare=2))
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_written_no_checkpoint_is_read(tmp_path: Path) -> None:
    (tmp_path / "models").touch()

    with pytest.raises(ExportError, match="cannot be written"):
        export_checkpoint(tmp_path / "none.pt", tmp_path / "models" / "new", ExportConfig())


def test_the_other_direction_is_another_generator(small: Bundle, tiny_checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    other = export_checkpoint(tiny_checkpoint, tmp_path / "ba", ExportConfig(direction="ba"), say=lines.append)

    assert other.manifest.artifacts[0].sha256 != small.manifest.artifacts[0].sha256
    assert other.manifest.direction == "ba"
    assert lines[0].startswith("Direction ba, comparing on 4 pictures of ")


@pytest.mark.usefixtures("other_pytorch")
def test_a_graph_that_differs_is_not_kept_and_the_old_bundle_stays(
    small: Bundle, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(small.folder, tmp_path / "small")
    before = (folder / "manifest.json").read_bytes()

    with pytest.raises(ExportError, match=r"generator-fp32\.onnx differs from PyTorch"):
        export_checkpoint(tiny_checkpoint, folder, ExportConfig())

    assert (folder / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.usefixtures("wrong_half")
def test_whoever_does_not_raise_gets_a_bundle_without_what_failed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    heard: list[Verdict] = []

    bundle = export_checkpoint(tiny_checkpoint, tmp_path / "small", ExportConfig(fp16=True), on_verdict=heard.append)

    assert [(it.file, it.outcome) for it in heard] == [
        ("generator-fp32.onnx", "good"), ("generator-fp16.onnx", "failed"),
    ]  # fmt: skip
    assert [artifact.file for artifact in bundle.manifest.artifacts] == ["generator-fp32.onnx"]
    assert not (bundle.folder / "generator-fp16.onnx").exists()
    with pytest.raises(ExportError, match=r"generator-fp16\.onnx differs from PyTorch"):
        export_checkpoint(tiny_checkpoint, tmp_path / "strict", ExportConfig(fp16=True))
    assert not (tmp_path / "strict").exists()


@pytest.mark.usefixtures("other_pytorch")
def test_nobody_gets_a_bundle_without_its_float32_graph(tiny_checkpoint: Path, tmp_path: Path) -> None:
    heard: list[Verdict] = []

    with pytest.raises(ExportError, match=r"generator-fp32\.onnx differs from PyTorch"):
        export_checkpoint(tiny_checkpoint, tmp_path / "small", ExportConfig(fp16=True), on_verdict=heard.append)

    assert [(it.file, it.outcome) for it in heard] == [("generator-fp32.onnx", "failed")]
    assert list(tmp_path.iterdir()) == []


def test_three_pictures_and_pytorch_s_translations_travel_with_the_bundle(small: Bundle, tiny_checkpoint: Path) -> None:
    translate = translate_with(open_generator(tiny_checkpoint, "ab").generator)
    first, second, _, last = load_pictures(tiny_checkpoint.parents[3] / "scenes" / "testA", size=32, most=4)

    stored = reference_pairs(small)

    for (kept, translated), picture in zip(stored, (first, second, last), strict=True):
        np.testing.assert_array_equal(kept, picture)
        np.testing.assert_array_equal(translated, translate(picture[None])[0])


def test_pictures_that_are_not_there_are_refused_or_replaced_aloud(tiny_checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    content = torch.load(tiny_checkpoint, weights_only=True)
    moved = tmp_path / "moved.pt"
    torch.save({**content, "config": {**content["config"], "data": str(tmp_path / "gone")}}, moved)

    export_checkpoint(moved, tmp_path / "small", ExportConfig(compare=2), say=lines.append)

    assert "rendered landscapes" in lines[0]
    with pytest.raises(DataError, match="holds no pictures to compare on"):
        export_checkpoint(tiny_checkpoint, tmp_path / "other", ExportConfig(pictures=tmp_path / "gone"))


def test_the_manifest_is_plain_json_with_the_parity_of_every_graph(small: Bundle) -> None:
    content = json.loads((small.folder / MANIFEST).read_text())

    assert content["schema"] == 3
    assert content["artifacts"][0]["parity"]["max_levels"] <= 1
    assert content["artifacts"][0]["parity"]["bound"] == {"max_levels": 1, "least_psnr_db": 60.0, "least_ssim": 0.999}
    assert set(content["versions"]) == {"python", "cyclegan-edge", "torch", "onnx", "onnxscript", "onnxruntime"}


def test_the_same_checkpoint_gives_the_same_bundle(small: Bundle, tiny_checkpoint: Path, tmp_path: Path) -> None:
    again = export_checkpoint(tiny_checkpoint, tmp_path / "again", ExportConfig(fp16=True))

    assert replace(again.manifest, name="small") == small.manifest
