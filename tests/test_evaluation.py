"""An evaluation of a checkpoint and of its bundle: the same protocol, the same figures within the export's loss."""

import json
import re
from dataclasses import astuple, replace
from datetime import datetime
from pathlib import Path

import pytest
import torch

from cyclegan_edge.errors import SinkError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.pipeline import export_checkpoint
from cyclegan_edge.files import sha256
from cyclegan_edge.train.evaluate.candidates import open_bundle, open_checkpoint
from cyclegan_edge.train.evaluate.evaluation import evaluate, write_evaluation
from cyclegan_edge.train.evaluate.features import FeatureNetwork
from cyclegan_edge.train.evaluate.quality import find_sets

CPU = torch.device("cpu")
NO_NETWORK = "there is none."
MEANS = FeatureNetwork(
    name="means.pt",
    sha256="0" * 64,
    dimension=3,
    takes="uint8 0..255",
    run=lambda pictures: pictures.mean((1, 2), dtype="float32"),
)


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as a bundle."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    export_checkpoint(tiny_checkpoint, folder, ExportConfig(compare=2))
    return folder


def scenes(checkpoint: Path) -> Path:
    return checkpoint.parents[3] / "scenes"


def test_a_checkpoint_and_its_bundle_give_the_same_figures(tiny_checkpoint: Path, exported: Path) -> None:
    sets = find_sets(scenes(tiny_checkpoint), size=32)

    before = evaluate(open_checkpoint(tiny_checkpoint, direction="ab", device=CPU), sets, features=MEANS)
    after = evaluate(open_bundle(exported, engine="onnxruntime"), sets, features=MEANS)

    assert before.protocol == after.protocol
    assert before.model.engine.startswith("torch ")
    assert after.model.engine.startswith("onnxruntime ")
    assert before.quality.distance is not None
    assert after.quality.distance is not None
    assert before.quality.truth is not None
    assert after.quality.truth is not None
    assert before.quality.distance.fid > 100
    assert after.quality.distance.fid == pytest.approx(before.quality.distance.fid, rel=0.01)
    assert after.quality.distance.kid == pytest.approx(before.quality.distance.kid, rel=0.01)
    assert astuple(after.quality.truth) == pytest.approx(astuple(before.quality.truth), abs=0.01)
    assert before.quality.cycle is not None
    assert before.left_out == ()


def test_an_evaluation_names_its_protocol(tiny_checkpoint: Path, tmp_path: Path) -> None:
    data = scenes(tiny_checkpoint)
    candidate = open_checkpoint(tiny_checkpoint, direction="ab", device=CPU)

    write_evaluation(tmp_path / "e.json", evaluate(candidate, find_sets(data, size=32, most=3), features=MEANS))

    stored = json.loads((tmp_path / "e.json").read_text())
    assert stored["schema"] == 2
    assert datetime.fromisoformat(stored["date"]).tzinfo is not None
    assert stored["model"]["sha256"] == sha256(tiny_checkpoint)
    assert (stored["model"]["kind"], stored["model"]["step"], stored["model"]["direction"]) == ("checkpoint", 0, "ab")
    protocol = stored["protocol"]
    assert protocol["translated"] == {"path": str(data / "testA"), "pictures": 3}
    assert protocol["real"] == {"path": str(data / "testB"), "pictures": 3}
    assert protocol["truth"] == {"path": str(data / "truthB"), "pictures": 3}
    assert (protocol["size"], protocol["resize"]) == (32, "Pillow 12's antialiased bicubic, both sides to the size")
    assert re.fullmatch(r"torch-fidelity \d+\.\d+\.\d+", protocol["features"].pop("library"))
    assert protocol["features"] == {
        "network": "means.pt",
        "sha256": "0" * 64,
        "dimension": 3,
        "takes": "uint8 0..255",
    }
    assert set(stored["quality"]) == {"distance", "cycle", "truth"}
    assert "3 translated and 3 real pictures are few" in stored["quality"]["distance"]["caution"]


def test_what_is_left_out_is_said(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    data = scenes(tiny_checkpoint)
    candidate = open_bundle(tiny_bundle, engine="onnxruntime")

    forwards = evaluate(candidate, find_sets(data, size=32), features="No weights.")
    backwards = evaluate(candidate, find_sets(data, size=32, direction="ba"), features=NO_NETWORK)

    assert forwards.quality.distance is None
    assert forwards.quality.cycle is None
    assert forwards.quality.truth is not None
    assert forwards.protocol.real is None
    assert forwards.left_out == (
        "FID and KID are left out: No weights.",
        "The cycle is left out: a bundle holds one direction; evaluate its run.",
    )
    assert backwards.left_out[-1] == (
        f"PSNR and SSIM are left out: there is no {data / 'truthA'} with the true translations."
    )


def test_without_real_pictures_there_is_no_distance(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    sets = replace(find_sets(scenes(tiny_checkpoint), size=32), targets=())

    found = evaluate(open_bundle(tiny_bundle, engine="onnxruntime"), sets, features=MEANS)

    assert found.quality.distance is None
    assert found.left_out[0].startswith("FID and KID are left out: there are no real pictures to compare with in ")


def test_progress_counts_real_and_translated_pictures(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    heard: list[tuple[int, int]] = []
    candidate = open_bundle(tiny_bundle, engine="onnxruntime")

    evaluate(
        candidate,
        find_sets(scenes(tiny_checkpoint), size=32),
        features=MEANS,
        on_progress=lambda done, total: heard.append((done, total)),
    )

    assert heard == [(number, 8) for number in range(1, 9)]


def test_a_place_that_cannot_be_written_is_an_error(tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = evaluate(
        open_bundle(tiny_bundle, engine="onnxruntime"), find_sets(scenes(tiny_checkpoint), size=32), features=NO_NETWORK
    )

    with pytest.raises(SinkError, match="cannot be written"):
        write_evaluation(tmp_path / "file" / "e.json", found)
