"""Starting from a trained model: exactly its weights, everything else fresh, and nothing of it needed afterwards."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cyclegan_edge.errors import CheckpointError, ConfigError
from cyclegan_edge.files import sha256
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import load_checkpoint, save_checkpoint
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.config import Origin, TrainConfig
from cyclegan_edge.train.data.folders import FolderPairs, PictureFolders
from cyclegan_edge.train.distill.config import DistillConfig, default_settings
from cyclegan_edge.train.distill.state import new_state as new_student
from cyclegan_edge.train.distill.state import save_state
from cyclegan_edge.train.loop import fit
from cyclegan_edge.train.runs import new_run, open_data, resume_run
from cyclegan_edge.train.state import TrainState, new_state
from cyclegan_edge.train.warm_start import WarmStart, start_from_checkpoint

CPU = torch.device("cpu")
NETWORKS = ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")


@pytest.fixture(scope="module")
def averaged(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint at step 7 whose averages differ from its weights."""
    config, _ = load_checkpoint(tiny_checkpoint, CPU)
    config = replace(config, seed=5, optimiser=replace(config.optimiser, ema=0.9))
    state = new_state(config, CPU)
    state.step = 7
    assert state.averages is not None
    for _, average in state.averages.items():
        for weight in average.parameters():
            weight.mul_(0.5)
    return save_checkpoint(tmp_path_factory.mktemp("averaged") / "runs" / "averaged", config, state)


def started(path: Path) -> WarmStart:
    start = start_from_checkpoint(path)
    assert start is not None
    return start


def weights(state: TrainState) -> dict[str, Mapping[str, Tensor]]:
    return {name: network.state_dict() for name, network in state.networks.items()}


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def tensors(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from tensors(f"{name}/{key}", inner)


def test_before_its_first_step_a_run_has_the_weights_of_the_checkpoint_bit_for_bit(averaged: Path) -> None:
    content = torch.load(averaged, weights_only=True)
    start = started(averaged)
    run = new_run({"data": "none", "device": "cpu", "optimiser.ema": 0.99, "seed": 3}, start=start)

    state = new_state(run.config, CPU, start.networks)

    found = weights(state)
    for name in ("generator_ab", "generator_ba"):
        assert equal(found[name], content["averages"][name])
        assert not equal(found[name], content["networks"][name])
    for name in ("discriminator_a", "discriminator_b"):
        assert equal(found[name], content["networks"][name])
    assert state.averages is not None
    assert equal(state.averages.generator_ab.state_dict(), content["averages"]["generator_ab"])
    assert (state.step, state.pairs, state.seconds, len(state.generators.state)) == (0, 0, 0.0, 0)


def test_networks_that_are_not_taken_start_as_they_would_without_a_model(averaged: Path) -> None:
    start = started(averaged)
    only = {"generator_ba": start.networks["generator_ba"]}
    config = new_run({"data": "none", "seed": 3}, start=start).config

    found, fresh = weights(new_state(config, CPU, only)), weights(new_state(config, CPU))

    assert [name for name in NETWORKS if not equal(found[name], fresh[name])] == ["generator_ba"]
    assert equal(found["generator_ba"], only["generator_ba"])


def test_the_model_decides_the_shapes_and_nothing_else_and_is_written_down(averaged: Path) -> None:
    start = started(averaged)

    config = new_run({"data": "none", "optimiser.ema": 0.5}, start=start).config

    assert (config.generator.width, config.discriminator.width, config.size) == (4, 4, 32)
    assert config.origin == Origin(file=str(averaged.resolve()), sha256=sha256(averaged), step=7)
    assert (config.seed, config.optimiser.ema, config.optimiser.learning_rate) == (0, 0.5, 2e-4)
    assert new_run({"data": "none", "size": 64}, start=start).config.size == 64


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        ("generator.width=8", r"a generator of kind='resnet', width=8, .* that of .*pt is of kind='resnet', width=4,"),
        ("generator.kind=compact", r"generator of kind='compact', width=4, .* is of kind='resnet', width=4,"),
        ("discriminator.layers=2", r"discriminator of width=4, layers=2, but .* is of width=4, layers=3;"),
        ("pictures.colour_b=grey", r"colour_b is 'grey', but .* was trained with 'rgb'"),
    ],
)
def test_another_shape_is_refused_by_a_sentence_that_names_both(averaged: Path, setting: str, facts: str) -> None:
    with pytest.raises(ConfigError, match=facts):
        new_run({"data": "none", "objective.identity_weight": 0.0}, assignments=[setting], start=started(averaged))


def test_a_run_that_started_warm_is_stopped_and_goes_on_exactly_without_its_model(
    averaged: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copy(averaged, tmp_path / "model.pt"))
    monkeypatch.setattr("cyclegan_edge.train.runs.RUNS", tmp_path / "runs")
    settings = {
        "data": str(tiny_checkpoint.parents[3] / "scenes"),
        "device": "cpu",
        "objective.pool": 2,
        "optimiser.ema": 0.9,
        "pictures.workers": 1,
        "schedule.steps": 6,
    }
    whole, pieces = (new_run(settings, name=name, start=started(model)) for name in ("whole", "pieces"))
    pairs = open_data(whole.config).pairs
    once, never = (lambda: True), (lambda: False)

    for _ in fit(whole.config, pairs, whole.folder, start=whole.start):
        pass
    steps = [progress.step for progress in fit(pieces.config, pairs, pieces.folder, start=pieces.start, stop=once)]
    model.unlink()
    for stop in (once, never):
        torch.manual_seed(99)  # another process would start elsewhere
        again = resume_run({}, name="pieces")
        assert again.config.origin == whole.config.origin
        steps += [it.step for it in fit(again.config, pairs, again.folder, resume=again.checkpoint, stop=stop)]

    ends = [find_checkpoint(run.folder) for run in (whole, pieces)]
    one, other = (dict(tensors("", torch.load(path, weights_only=True))) for path in ends if path)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [path.name for path in ends if path] == ["step_0000006.pt"] * 2
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_where_a_run_started_cannot_change_on_the_way(
    averaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(averaged.parents[1], tmp_path / "runs" / "averaged")
    monkeypatch.setattr("cyclegan_edge.train.runs.RUNS", tmp_path / "runs")
    claimed = ["origin.file=other.pt", "origin.sha256=0a"]

    with pytest.raises(ConfigError, match=r"origin.* cannot change on the way"):
        resume_run({}, assignments=claimed)
    with pytest.raises(ConfigError, match=r"started from other.pt; add --from other.pt"):
        new_run({"data": "none"}, assignments=claimed)


def test_a_model_that_is_forgotten_does_not_become_a_run_from_scratch(averaged: Path, tmp_path: Path) -> None:
    run = new_run({"data": "none", "device": "cpu"}, start=started(averaged))

    with pytest.raises(ConfigError, match=r"different models.*start=run\.start"):
        next(fit(run.config, FolderPairs(PictureFolders((), ()), 0), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_student_of_a_distillation_is_taken_as_averaged_and_the_rest_starts_fresh(tmp_path: Path) -> None:
    names = {"teacher": "none", "data": "none", "direction": "ba"}
    tiny = ["generator.width=8", "generator.blocks=1", "size=64"]
    config = load_settings(DistillConfig, None, tiny, base=default_settings(), overrides=names)
    taught = new_student(config, CPU, torch.nn.ModuleList([torch.nn.Conv2d(1, 1, 1)]), (1, 3))
    taught.step = 9
    for weight in taught.average.parameters():
        weight.mul_(0.5)
    path = save_state(tmp_path, config, taught, (1, 3))

    start = started(path)
    made = new_run({"data": "none", "objective.identity_weight": 0.0}, start=start).config

    assert equal(weights(new_state(made, CPU, start.networks))["generator_ba"], taught.average.state_dict())
    assert list(start.networks) == ["generator_ba"]
    assert (made.generator, made.size, made.origin) == (config.generator, 64, start.origin)
    assert (made.pictures.colour_a, made.pictures.colour_b, start.origin.step) == ("rgb", "grey", 9)
    assert "which is B to A; the other generator and both discriminators start fresh" in start.note


def test_settings_of_such_a_run_read_back(averaged: Path, tmp_path: Path) -> None:
    from cyclegan_edge.settings import to_toml

    start = started(averaged)
    unknown_step = replace(start, origin=replace(start.origin, step=None))
    for one in (start, unknown_step):
        config = new_run({"data": "none"}, start=one).config
        (tmp_path / "settings.toml").write_text(to_toml(config), encoding="utf-8")

        assert load_settings(TrainConfig, tmp_path / "settings.toml") == config


def test_what_is_no_usable_checkpoint_is_refused_or_left_to_others(averaged: Path, tmp_path: Path) -> None:
    whole = torch.load(averaged, weights_only=True)
    half, old, broken, theirs = (tmp_path / name for name in ("half.pt", "old.pt", "nan.pt", "theirs.pth"))
    half.write_bytes(averaged.read_bytes()[:5000])
    torch.save({**whole, "format": 1}, old)
    whole["averages"]["generator_ab"]["model.1.bias"][0] = float("nan")
    torch.save(whole, broken)
    torch.save(whole["networks"]["generator_ab"], theirs)

    for path, facts in ((half, "damaged"), (old, "not a checkpoint of this version"), (broken, r"NaN.*model.1.bias")):
        with pytest.raises(CheckpointError, match=facts):
            start_from_checkpoint(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        start_from_checkpoint(tmp_path / "nowhere.pt")
    assert start_from_checkpoint(theirs) is None
