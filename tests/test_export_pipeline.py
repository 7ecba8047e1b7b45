"""What is good moves into the bundle together with its manifest, what is not is deleted, and a kill changes nothing."""

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.bundle import MANIFEST, Artifact, Bundle, read_bundle
from cyclegan_edge.contract import GraphPrecision, Translate
from cyclegan_edge.errors import BundleError, EngineError, ExportError
from cyclegan_edge.export.formats import Make, Target
from cyclegan_edge.export.parity import Pair, Verdict, pairs_of, raise_failed, render_pictures
from cyclegan_edge.export.pipeline import add_to_bundle, stage_and_check, write_bundle
from cyclegan_edge.files import sha256

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


@pytest.mark.parametrize(("case", "kills"), [("new", 50), ("again", 50), ("add", 20), ("replace", 20)])
def test_a_kill_at_any_change_of_the_disk_leaves_the_old_bundle_or_the_new_one(
    case: str, kills: int, tmp_path: Path
) -> None:
    """The script also checks that what is there verifies, and that the next export leaves nothing else."""
    script = Path(__file__).parent / "data" / "killed_export.py"

    done = subprocess.run([sys.executable, script, tmp_path, case], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    states = json.loads(done.stdout)
    assert len(states) > kills
    assert states == sorted(states, reverse=True), "first the old one, then the new one"
    assert {*states} == {"old", "new"}
