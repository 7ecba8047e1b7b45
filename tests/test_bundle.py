import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyclegan_edge.bundle import (
    INCLUDED,
    MANIFEST,
    Part,
    Reference,
    included_bundle,
    newest_bundle,
    read_bundle,
    write_manifest,
)
from cyclegan_edge.errors import BundleError

OUTSIDE = {"file": "../1.png", "sha256": ""}

Change = Callable[[dict[str, Any]], object]


def test_a_manifest_comes_back_as_it_was_written(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)

    write_manifest(tiny_bundle, bundle.manifest)

    assert read_bundle(tiny_bundle) == bundle


def test_a_manifest_that_names_no_multiple_means_4(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / MANIFEST).read_text())
    del manifest["multiple"]
    (tiny_bundle / MANIFEST).write_text(json.dumps(manifest))

    assert read_bundle(tiny_bundle).manifest.multiple == 4


def test_artifacts_are_found_by_format_and_precision(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)

    graph = bundle.artifact("onnx", "fp16")

    assert graph is not None
    assert bundle.path(graph) == tiny_bundle / "generator-fp16.onnx"
    assert bundle.artifact("tensorrt", "fp16") is None


def test_an_entry_that_has_a_default_may_be_missing(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / MANIFEST).read_text())
    for artifact in manifest["artifacts"]:
        del artifact["parts"], artifact["fixed"]
    expected = read_bundle(tiny_bundle)
    (tiny_bundle / MANIFEST).write_text(json.dumps(manifest))

    assert read_bundle(tiny_bundle) == expected


def test_a_changed_or_missing_file_is_refused(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    graph = bundle.artifact("onnx", "fp32")
    assert graph is not None

    with (tiny_bundle / graph.file).open("r+b") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"generator-fp32\.onnx is not the file that was exported"):
        bundle.path(graph)

    (tiny_bundle / graph.file).unlink()
    with pytest.raises(BundleError, match=r"generator-fp32\.onnx is named by the manifest but is not there"):
        bundle.path(graph)


def test_a_file_of_another_length_is_refused_before_it_is_read(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / MANIFEST).read_text())
    manifest["artifacts"][0]["bytes"] = 1 << 40
    manifest["artifacts"][0]["sha256"] = "never looked at"
    (tiny_bundle / MANIFEST).write_text(json.dumps(manifest))
    bundle = read_bundle(tiny_bundle)

    with pytest.raises(BundleError, match=r"is not the file that was exported \(it has \d+ bytes, .* 1099511627776\)"):
        bundle.path(bundle.manifest.artifacts[0])


def test_a_bundle_knows_every_file_that_it_names(tiny_bundle: Path) -> None:
    parts = [Part(file=name, sha256="0") for name in ("weights", "a.png", "b.png")]
    manifest = read_bundle(tiny_bundle).manifest
    graph, half = manifest.artifacts

    grown = replace(
        manifest,
        artifacts=(replace(graph, parts=(parts[0],)), half),
        references=(Reference(picture=parts[1], translated=parts[2]),),
    )

    assert [part.file for part in grown.files()] == [graph.file, "weights", half.file, "a.png", "b.png"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda it: it.update(schema=99), "has schema 99, this version reads 3"),
        (
            lambda it: it.update(schema=2),
            r"has schema 2, .* reads 3; .*`cyclegan-edge export RUN`, where RUN holds its checkpoint step-1\.pt\.",
        ),
        (lambda it: it.update(schema=2, source=3), r"has schema 2, .*`cyclegan-edge export RUN`\."),
        (lambda it: it.pop("schema"), "has schema None"),
        (lambda it: it.update(licence="MIT"), "licence is unknown"),
        (lambda it: it["source"].update(url="x"), r"source\.url is unknown"),
        (lambda it: it.pop("artifacts"), "artifacts is missing"),
        (lambda it: it.update(multiple=6), "has the multiple 6, expected one of 4 from 4 to 4096"),
        (lambda it: it.update(multiple=0), "has the multiple 0"),
        (lambda it: it.update(multiple=1 << 20), "has the multiple 1048576"),
        (lambda it: it.update(domains=["horse"]), "domains is "),
        (lambda it: it.update(size=0), "has the size 0, expected 8 to 4096 px"),
        (lambda it: it.update(size=-4), "has the size -4"),
        (lambda it: it.update(size=1 << 40), "has the size 1099511627776"),
        (lambda it: it.update(architecture="resnet"), "architecture is 'resnet'"),
        (lambda it: it.update(architecture=[1]), r"architecture is \[1\]"),
        (
            lambda it: it["artifacts"][0].update(shapes=[[1, 32, 32]]),
            r"has the shapes \(\(1, 32, 32\),\), expected three",
        ),
        (lambda it: it["artifacts"][0].update(shapes=[[1, 0, 32]] * 3), r"has the shapes \(\(1, 0, 32\)"),
        (lambda it: it["artifacts"][0].update(fixed=[1, 32, 1 << 30]), r"has the shapes \(\(1, 32, 1073741824\),\)"),
        (lambda it: it.update(size="256"), "size is '256', expected .*int"),
        (lambda it: it.update(size=True), "size is True, expected .*int"),
        (lambda it: it.update(direction="up"), "direction is 'up', expected .*'ab', 'ba'"),
        (lambda it: it.update(source=[]), r"source is \[\]"),
        (lambda it: it["artifacts"][0].update(precision="int4"), r"artifacts\[0\]\.precision is 'int4'"),
        (
            lambda it: it["artifacts"][0].update(shapes=[[1, 2]]),
            r"shapes\[0\] is \[1, 2\], .*int, int, int",
        ),
        (lambda it: it["artifacts"][0].update(parity={"images": 1}), r"parity\.height is missing"),
        (lambda it: it["artifacts"][0].update(file="../outside.onnx"), "expected a plain name inside the folder"),
        (lambda it: it["artifacts"][0].update(file="/etc/passwd"), "expected a plain name inside the folder"),
        (lambda it: it["artifacts"][0].update(file="a\0b"), "expected no NUL in it"),
        (lambda it: it["artifacts"][0].update(file=".committed"), "expected a plain name inside the folder"),
        (lambda it: it["artifacts"][0].update(file=MANIFEST), "expected a plain name inside the folder"),
        (lambda it: it["artifacts"][0].update(file=".."), "expected a plain name inside the folder"),
        (lambda it: it["artifacts"][0].update(parts=[{"file": "../w", "sha256": ""}]), "expected a plain name inside"),
        (lambda it: it["artifacts"][0].update(parts=[{"file": "w"}]), r"parts\[0\]\.sha256 is missing"),
        (lambda it: it["artifacts"][0].update(bytes="many"), "bytes is 'many'"),
        (
            lambda it: it.update(references=[{"picture": OUTSIDE, "translated": OUTSIDE}]),
            "expected a plain name inside",
        ),
        (lambda it: it.update(references=[{"picture": OUTSIDE}]), r"references\[0\]\.translated is missing"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_by_name(change: Change, sentence: str, tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / MANIFEST).read_text())
    change(manifest)
    (tiny_bundle / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match=sentence):
        read_bundle(tiny_bundle)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 4000, "9" * 5000])
def test_a_number_that_no_computer_holds_is_no_json(number: str, tiny_bundle: Path) -> None:
    text = (tiny_bundle / MANIFEST).read_text()
    (tiny_bundle / MANIFEST).write_text(text.replace('"size": 32', f'"size": {number}'))

    with pytest.raises(
        BundleError, match=r"is not valid JSON \((.{1,20} is not a finite number|an integer of \d+ digits)\)"
    ):
        read_bundle(tiny_bundle)


def test_a_commit_that_was_interrupted_is_completed_by_whoever_opens_the_bundle(tiny_bundle: Path) -> None:
    newer = read_bundle(tiny_bundle).manifest
    committed = tiny_bundle / ".committed"
    committed.mkdir()
    write_manifest(committed, replace(newer, name="newer"))

    assert read_bundle(tiny_bundle).manifest.name == "newer"
    assert not committed.exists()


def test_one_that_cannot_be_completed_is_a_sentence(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny_bundle / ".committed").mkdir()
    (tiny_bundle / ".committed" / MANIFEST).touch()

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)

    with pytest.raises(
        BundleError, match=r"half-finished export .*\(Permission denied\); open it once where it can be wri"
    ):
        read_bundle(tiny_bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(content: bytes, tiny_bundle: Path) -> None:
    (tiny_bundle / MANIFEST).write_bytes(content)

    with pytest.raises(BundleError, match="is not valid JSON"):
        read_bundle(tiny_bundle)


def test_json_that_is_no_object_and_a_large_file_are_refused(tiny_bundle: Path) -> None:
    (tiny_bundle / MANIFEST).write_text("[]")
    with pytest.raises(BundleError, match=r"has schema \[\]"):
        read_bundle(tiny_bundle)

    (tiny_bundle / MANIFEST).write_text(" " * (1 << 20) + "{}")
    with pytest.raises(BundleError, match="expected at most 1048576; it is no manifest"):
        read_bundle(tiny_bundle)


@pytest.mark.parametrize("kind", ["run", "weights"])
def test_what_can_be_exported_is_answered_with_the_command(tmp_path: Path, kind: str) -> None:
    source = tmp_path / ("horse2zebra" if kind == "run" else "latest_net_G.pth")
    if kind == "run":
        (source / "checkpoints").mkdir(parents=True)
    else:
        source.touch()

    with pytest.raises(BundleError, match=rf"export it first with `cyclegan-edge export {re.escape(str(source))}`"):
        read_bundle(source)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no exported model"):
        read_bundle(tmp_path / "none")


def test_the_newest_bundle_is_the_one_exported_last(tiny_bundle: Path) -> None:
    models = tiny_bundle.parent
    for name, age in [("older", 100), (".half-written", -100)]:
        (models / name).mkdir()
        (models / name / MANIFEST).touch()
        written = (tiny_bundle / MANIFEST).stat().st_mtime - age
        os.utime(models / name / MANIFEST, (written, written))

    assert newest_bundle(models) == tiny_bundle


def test_without_an_exported_one_it_is_the_one_that_comes_with_the_package(tmp_path: Path) -> None:
    assert newest_bundle(tmp_path) == INCLUDED / "landscapes"


def test_a_model_of_the_package_is_opened_by_its_name_unless_there_is_a_folder_of_that_name(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)

    assert read_bundle("landscapes").folder == INCLUDED / "landscapes"
    assert included_bundle("nothing") is included_bundle("../models") is included_bundle("") is None
    tiny_bundle.rename("landscapes")
    assert included_bundle("landscapes") is None
    assert read_bundle("landscapes").manifest.name == "negative"


def test_what_comes_with_the_package_is_whole_and_light() -> None:
    bundle = read_bundle("landscapes")

    assert {part.file for part in bundle.manifest.files()} | {MANIFEST, "README.md"} == {
        path.name for path in bundle.folder.iterdir()
    }
    assert all(bundle.checked(part).is_file() for part in bundle.manifest.files())
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) < 1_500_000


@pytest.mark.parametrize("name", ["horse2zebra-large", "horse2zebra-middle", "horse2zebra-small"])
def test_the_trained_models_of_the_repository_are_whole(name: str) -> None:
    bundle = read_bundle(Path(__file__).parents[1] / "models/trained" / name)

    assert all(bundle.checked(part).is_file() for part in bundle.manifest.files())
    assert {artifact.precision for artifact in bundle.manifest.artifacts} == {"fp32", "fp16", "int8"}


def test_no_bundle_at_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyclegan_edge.bundle.INCLUDED", tmp_path)
    with pytest.raises(BundleError, match="There is no exported model in"):
        newest_bundle(tmp_path)
