"""Runs on disk: which one is meant, what may change when it goes on, and where its files belong."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.errors import CheckpointError, ConfigError, ImageError, SinkError, TrainError
from cyclegan_edge.images import write_image
from cyclegan_edge.train.checkpoint_format import read_content
from cyclegan_edge.train.data.shards import ShardPairs
from cyclegan_edge.train.runs import (
    evaluation_path,
    hold,
    new_run,
    newest_run,
    open_data,
    resolve_checkpoint,
    resume_run,
    with_direction,
)


@pytest.fixture
def runs(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of runs, with the run `tiny`."""
    shutil.copytree(tiny_checkpoint.parents[1], tmp_path / "runs" / "tiny")
    monkeypatch.setattr("cyclegan_edge.train.runs.RUNS", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        ("/pictures/horse2zebra", None, "horse2zebra"),
        ("/pictures/horse2zebra", "second", "second"),
        ("/pictures/horses.v2", None, "horses"),
        ("/shards/{0000..0099}.tar", None, "shards"),
        ("https://example.org/maps/0000.tar", None, "maps"),
    ],
)
def test_a_new_run_has_the_name_of_its_data(data: str, name: str | None, expected: str) -> None:
    run = new_run({"data": data}, name=name)

    assert (run.folder, run.checkpoint, run.changed) == (Path("runs") / expected, None, ())


def test_overrides_win_over_assignments_and_those_over_the_preset() -> None:
    run = new_run(
        {"data": "horses", "size": 64}, preset="short-side", assignments=["size=128", "objective.patches=map"]
    )

    config = run.config
    assert (config.size, config.objective.patches, config.pictures.mode) == (64, "map", "short_side_and_crop")


def test_a_new_run_needs_data() -> None:
    with pytest.raises(ConfigError, match="trainA/ and trainB/"):
        new_run({})


def test_a_run_goes_on_with_its_settings_and_another_end_takes_the_place_of_its_own(runs: Path) -> None:
    first = resume_run({"schedule.steps": 7})
    second = resume_run({"schedule.minutes": 1.0, "batch": 2}, name="tiny", assignments=["output.keep=3"])

    assert first.folder == second.folder == runs / "tiny"
    assert first.checkpoint == runs / "tiny" / "checkpoints" / "step_0000000.pt"
    assert first.changed == ("schedule.steps",)
    assert first.config.generator.width == 4
    assert second.changed == ("batch", "schedule.minutes", "output.keep")
    assert second.config.schedule.steps is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 64),
        ("seed", 1),
        ("start_gain", 0.1),
        ("generator.width", 8),
        ("discriminator.layers", 2),
        ("pictures.colour_b", "grey"),
    ],
)
def test_what_the_networks_or_the_order_depend_on_cannot_change(name: str, value: object, runs: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot change"):
        resume_run({name: value, "objective.identity_weight": 0.0})


def test_the_newest_run_is_the_one_that_saved_last(runs: Path) -> None:
    (runs / "later" / "checkpoints").mkdir(parents=True)
    os.utime(runs / "tiny" / "checkpoints", (1, 1))

    assert newest_run() == runs / "later"


def test_a_run_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(CheckpointError, match="no run in"):
        newest_run()
    (tmp_path / "runs" / "empty" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="empty has no checkpoint"):
        resume_run({}, name="empty")
    with pytest.raises(CheckpointError, match="empty is neither a checkpoint"):
        resolve_checkpoint(tmp_path / "runs" / "empty")


def test_a_folder_that_is_taken_gets_the_next_number_and_an_unused_one_goes(tmp_path: Path) -> None:
    wanted = tmp_path / "runs" / "horses"

    with hold(wanted, new=True) as first, hold(wanted, new=True) as second:
        (first / "settings.toml").touch()
    with hold(wanted, new=True) as third:
        pass

    assert (first, second, third) == (wanted, tmp_path / "runs" / "horses-2", second)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["horses"]


def test_a_run_that_another_process_trains_does_not_go_on_until_that_is_killed(runs: Path) -> None:
    script = "import sys; from pathlib import Path; from cyclegan_edge.train.runs import hold\n"
    script += "with hold(Path(sys.argv[1]), new=False): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(runs / "tiny")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TrainError, match=r"Another process is training in .*tiny"), hold(runs / "tiny", new=False):
            pass
    finally:
        holder.kill()
        holder.communicate()

    with hold(runs / "tiny", new=False) as folder:
        assert folder == runs / "tiny"


@pytest.mark.parametrize("new", [True, False])
def test_a_folder_that_cannot_be_written_is_refused(new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(**where: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full_disk)

    with pytest.raises(SinkError, match="No space left on device"), hold(tmp_path / "horses", new=new):
        pass


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: whole[::-1]]
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(runs: Path, damage: Callable[[bytes], bytes]) -> None:
    older = runs / "tiny" / "checkpoints" / "step_0000000.pt"
    newer = older.with_name("step_0000009.pt")
    newer.write_bytes(damage(older.read_bytes()))

    run = resume_run({})

    assert run.checkpoint == older
    (sentence,) = run.damaged
    assert str(newer) in sentence
    older.unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint to continue from \(.*step_0000009.pt"):
        resume_run({})


def test_a_checkpoint_that_is_replaced_while_it_is_opened_gives_way_to_the_later_one(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = runs / "tiny" / "checkpoints" / "step_0000000.pt"
    newer = older.with_name("step_0000009.pt")

    def replaced_first(path: Path) -> object:
        if path == older:
            older.rename(newer)
        return read_content(path)

    monkeypatch.setattr("cyclegan_edge.train.checkpoint.read_content", replaced_first)

    run = resume_run({})

    assert (run.checkpoint, run.damaged) == (newer, ())


def test_a_source_is_a_run_a_file_of_one_or_anyone_s_file(runs: Path, tmp_path: Path) -> None:
    checkpoint = runs / "tiny" / "checkpoints" / "step_0000000.pt"
    theirs = tmp_path / "maps" / "latest_net_G_B.pth"
    theirs.parent.mkdir()
    theirs.touch()

    assert resolve_checkpoint(None) == ("tiny", checkpoint)
    assert resolve_checkpoint(runs / "tiny") == ("tiny", checkpoint)
    assert resolve_checkpoint(checkpoint) == ("tiny", checkpoint)
    assert resolve_checkpoint(theirs) == ("maps-ba", theirs)


def test_an_evaluation_lies_in_the_run_or_beside_a_file_of_none(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = runs / "tiny" / "checkpoints"

    assert evaluation_path(checkpoints / "step_5.pt", "ab") == runs / "tiny" / "evaluation" / "step_5.json"
    assert evaluation_path(checkpoints / "best.pt", "ba") == runs / "tiny" / "evaluation" / "best-ba.json"
    assert evaluation_path(runs / "copy.pt", "ab") == runs / "copy.json"
    monkeypatch.chdir(checkpoints)
    assert evaluation_path(Path("step_5.pt"), "ab") == runs / "tiny" / "evaluation" / "step_5.json"


def test_the_other_direction_is_in_the_name_once() -> None:
    names = [with_direction("maps", "ab"), with_direction("maps", "ba"), with_direction("maps-ba", "ba")]

    assert names == ["maps", "maps-ba", "maps-ba"]


def test_data_are_opened_with_what_there_is_to_say(tiny_checkpoint: Path, tmp_path: Path) -> None:
    data = tmp_path / "scenes"
    shutil.copytree(tiny_checkpoint.parents[3] / "scenes", data)
    (data / "trainA" / "broken.jpg").write_bytes(b"not a picture")
    seen: list[tuple[int, int]] = []

    opened = open_data(new_run({"data": str(data)}).config, on_progress=lambda done, total: seen.append((done, total)))

    assert (opened.counts, opened.sharded, len(opened.pairs)) == ((2, 2), False, 2)
    assert seen[-1] == (5, 5)
    (sentence,) = opened.skipped
    assert "broken.jpg" in sentence


@pytest.mark.parametrize("sharded", [False, True])
def test_a_picture_that_scaling_would_blow_up_is_named_before_any_memory_is_taken(
    tiny_checkpoint: Path, tmp_path: Path, sharded: bool
) -> None:
    from cyclegan_edge.train.data.pack import pack

    data = tmp_path / "scenes"
    shutil.copytree(tiny_checkpoint.parents[3] / "scenes", data)
    write_image(data / "trainA" / "long.png", np.zeros((65535, 1, 3), np.uint8))
    if sharded:
        pack(data, tmp_path / "shards")
    config = new_run({"data": str(tmp_path / "shards" if sharded else data), "pictures.mode": "scale_width"}).config

    opened = open_data(config)

    if sharded:
        with pytest.raises(ImageError, match=r"long\.png.*1x65535 px"):
            [pair.decode_a() for pair in islice(opened.pairs.stream(0), 3)]
    else:
        assert ["long.png" in sentence for sentence in opened.skipped] == [True]
        assert opened.counts == (2, 2)


def test_shards_are_opened_where_the_data_are_shards(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from cyclegan_edge.train.data.pack import pack

    pack(tiny_checkpoint.parents[3] / "scenes", tmp_path / "shards")

    opened = open_data(new_run({"data": str(tmp_path / "shards")}).config)

    assert isinstance(opened.pairs, ShardPairs)
    assert (opened.counts, opened.sharded) == ((2, 2), True)


def test_two_domains_are_opened_by_name_and_files_of_other_kinds_are_named(two_domains: Path) -> None:
    (two_domains / "trainA").rename(two_domains / "night")
    (two_domains / "trainB").rename(two_domains / "day")
    (two_domains / "day" / "0.heic").touch()
    config = new_run({"data": str(two_domains), "domains": "night,day"}).config

    opened = open_data(config)

    assert (opened.counts, opened.folders) == ((5, 3), ("night", "day"))
    (sentence,) = opened.unread
    assert "day holds 1 .heic" in sentence


def test_a_run_goes_on_from_the_checkpoint_that_is_named(runs: Path) -> None:
    last = runs / "tiny" / "checkpoints" / "step_0000000.pt"
    older = shutil.copy(last, last.with_name("best.pt"))

    run = resume_run({}, checkpoint=Path(older))

    assert (run.folder, run.checkpoint, run.damaged) == (runs / "tiny", Path(older), ())


def test_a_checkpoint_of_another_run_or_of_none_is_refused(runs: Path, tmp_path: Path) -> None:
    last = runs / "tiny" / "checkpoints" / "step_0000000.pt"
    alone = Path(shutil.copy(last, tmp_path / "alone.pt"))

    with pytest.raises(ConfigError, match=r"alone\.pt, expected a file in .*runs/NAME/checkpoints; name one"):
        resume_run({}, checkpoint=alone)
    with pytest.raises(ConfigError, match=r"expected a file in .*runs/other/checkpoints; name one"):
        resume_run({}, checkpoint=last, name="other")
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*step_7\.pt"):
        resume_run({}, checkpoint=last.with_name("step_7.pt"))
