"""A checkpoint is data from outside: whatever it holds is refused in one sentence, or can be gone on with."""

import itertools
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cyclegan_edge.cli import main
from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import load_checkpoint, save_checkpoint
from cyclegan_edge.train.checkpoint_format import check_content
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.execution import resolve
from cyclegan_edge.train.state import TrainState, new_state
from cyclegan_edge.train.step import Step

CPU = torch.device("cpu")
TINY = {"size": 32, "generator.width": 2, "generator.blocks": 1, "discriminator.width": 2, "optimiser.ema": 0.5}
DELETED = object()
VALUES: list[Any] = [
    *(DELETED, None, -1, 0, 10**18, -(10**18), 10**30, 10**5000, float("nan"), float("inf"), True),
    *("", "x", "a\0b", "\ud800", [], {}, [1, 2], {"a": 1}, [[]]),
    *(torch.ones(0), torch.ones(3), torch.tensor(5), torch.ones(1).expand(1 << 20, 1 << 20)),
    *(torch.ones(2, 2).to_sparse(), torch.ones(1, device="meta")),
]


def take_step(config: TrainConfig, state: TrainState) -> None:
    execution = resolve(config.speed, CPU, size=32, batch=1)
    picture = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    Step(state, config.objective, execution)(picture, -picture)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The entries of a checkpoint after one step, with every kind of entry filled."""
    config = load_settings(TrainConfig, overrides={**TINY, "data": "none", "device": "cpu"})
    state = new_state(config, CPU)
    take_step(config, state)
    state.best = {"cycle": 1.5}
    state.diagnostics = {
        "means": {"a": 0.5},
        "since": {"a": [1, 2]},
        "warned": {"a": 1},
        "seen": {"a": [[0.5], [1.0]]},
    }
    saved = save_checkpoint(tmp_path_factory.mktemp("run"), config, state)
    entries: dict[str, Any] = torch.load(saved, weights_only=True)
    return entries


Way = tuple[Any, ...]


def ways(value: object, way: Way = ()) -> Iterator[Way]:
    """How to reach every entry: ("replay_a", "pictures", 0). Of the long lists, the first and the last."""
    if way:
        yield way
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))[:: max(1, len(value) - 1)]
    for key, item in items:
        yield from ways(item, (*way, key))


def changed(value: Any, way: Way, new: object) -> Any:
    """A copy of nested dictionaries and lists in which the entry at `way` is another, or gone."""
    copied = dict(value) if isinstance(value, dict) else list(value)
    if new is DELETED and len(way) == 1:
        del copied[way[0]]
    else:
        copied[way[0]] = changed(copied[way[0]], way[1:], new) if way[1:] else new
    return copied


def write(content: object, folder: Path) -> Path:
    path = folder / "step_0000001.pt"
    torch.save(content, path)
    return path


def is_one_sentence(error: CheckpointError, path: Path) -> bool:
    text = str(error)
    return text.startswith(str(path)) and text.endswith(".") and "\n" not in text and len(text) < 500 + len(str(path))


def test_any_entry_replaced_by_anything_is_one_sentence_or_can_be_gone_on_with(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """CYCLEGAN_EDGE_FUZZ=5000 tries so many instead of 80."""
    cases = list(itertools.product(ways(content), VALUES))
    tried = min(len(cases), int(os.environ.get("CYCLEGAN_EDGE_FUZZ", "80")))
    refused, failures = 0, []

    for way, value in random.Random(tried).sample(cases, tried):
        path = write(changed(content, way, value), tmp_path)
        try:
            take_step(*load_checkpoint(path, CPU))
        except CheckpointError as error:
            refused += 1
            if not is_one_sentence(error, path):
                failures.append((way, value, str(error)))
        except Exception as error:  # what the test is about
            failures.append((way, value, repr(error)))

    assert not failures, f"{len(failures)} of {tried}"
    assert tried / 2 < refused < tried, "either nothing is checked, or nothing is accepted"


MALFORMED: dict[str, tuple[Way, Any, str]] = {
    "no config": (("config",), DELETED, "config is missing"),
    "config": (("config",), "x", "config is 'x'"),
    "setting": (("config", "generator", "widht"), 4, r"did you mean 'generator\.width'"),
    "blocks": (("config", "generator", "blocks"), 10_000_000, "blocks is 10000000, expected 0 to 256"),
    "other blocks": (("config", "generator", "blocks"), 9, r"networks\.generator_ab\.model\.\d+.* has the shape"),
    "layers": (("config", "discriminator", "layers"), 10**12, "layers is 1000000000000, expected 1 to 12"),
    "size": (("config", "size"), 4 << 40, "size is 4398046511104, expected at most 16384"),
    "step": (("step",), "many", "step is 'many', expected a value of type int"),
    "negative": (("pairs",), -1, "pairs is -1, expected 0 to"),
    "digits": (("step",), 10**4000, "an integer of 13288 bits, expected at most 128"),
    "watch": (("watch",), 3, "watch is 3"),
    "since": (("watch", "since", "a"), [1], "watch.since"),
    "seen": (("watch", "seen", "a", 0), [0.5, 0.5], "watch.seen"),
    "back_off": (("back_off",), float("nan"), "back_off is nan, expected a finite number"),
    "scaler": (("scaler", "_growth_tracker"), 0.5, r"scaler\._growth_tracker is 0\.5, expected a value of type int"),
    "vector": (("cycle_sum",), torch.ones(3), "cycle_sum is not a floating-point number"),
    "weight": (("networks", "generator_ba", "model.1.bias"), torch.ones(9), r"generator_ba\.model\.1\.bias .* \(9,\)"),
    "expanded": (("replay_a", "pictures", 0), torch.ones(1).expand(3, 1 << 20, 1 << 20), r"tensors have \d{14} bytes"),
    "moments": (("generators", "state", 0, "exp_avg"), torch.ones(3), "an optimiser has moments"),
    "picture": (("replay_b", "pictures", 0), torch.ones(3), "replay_b holds a tensor that is not a picture"),
    "random": (("random", "python"), [3], "does not fit its own settings"),
    "format": (("format",), torch.ones(3), "not a checkpoint of this version, expected format 2"),
    "newer": (("format",), 99, "not a checkpoint of this version, expected format 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_entry_is_refused_by_its_name(case: str, content: dict[str, Any], tmp_path: Path) -> None:
    way, value, sentence = MALFORMED[case]
    path = write(changed(content, way, value), tmp_path)

    with pytest.raises(CheckpointError, match=sentence) as refused:
        load_checkpoint(path, CPU)
    assert is_one_sentence(refused.value, path)


def test_what_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*none\.pt"):
        load_checkpoint(tmp_path / "none.pt", CPU)


def bomb(content: dict[str, Any], tmp_path: Path) -> Any:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    return {**content, "config": Bomb()}


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--resume", "runs/one"],
        ["evaluate", "runs/one"],
        ["export", "runs/one"],
        ["import", "runs/one/checkpoints/step_0000001.pt"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_says_the_same_of_a_malicious_pickle_and_does_not_run_it(
    command: list[str],
    content: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/one/checkpoints")
    folder.mkdir(parents=True)
    path = write(bomb(content, tmp_path), folder)
    monkeypatch.setattr(sys, "argv", ["cyclegan-edge", *command])

    with pytest.raises(SystemExit) as end:
        main()

    said = capsys.readouterr().err
    assert end.value.code == 1
    assert f"{path} holds Python objects (posix.mkdir), which could run any code" in said
    assert "weights_only" not in said
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_goes_while_it_is_checked_is_refused_in_a_sentence(
    content: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"step_1\.pt cannot be read \(No such file or directory\)"):
        check_content(content, tmp_path / "step_1.pt")
