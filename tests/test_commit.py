"""Files of one folder change together: after a kill, whoever opens it finds all the old ones or all the new ones."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyclegan_edge.commit import atomic_folder, commit, finish_commit, locked, open_stage, remove_dead_stages


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_staged_files_take_their_places_and_the_others_stay(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("old")

    with open_stage(tmp_path) as stage, locked(tmp_path):
        (stage / "a").write_text("new")
        (stage / "c").write_text("new")
        commit(stage)

    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == {"a": "new", "b": "old", "c": "new"}


@pytest.mark.parametrize("existed", [True, False])
def test_a_stage_that_is_not_committed_leaves_nothing(existed: bool, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "x"
    if existed:
        folder.mkdir(parents=True)
        (folder / "a").touch()

    with pytest.raises(OSError, match="disk full"), open_stage(folder) as stage:  # noqa: PT012
        (stage / "b").touch()
        raise OSError("disk full")

    assert [path.name for path in folder.parent.rglob("*")] == (["x", "a"] if existed else [])


def test_everything_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut too, when what was not synced is lost: files and their folder first, then the rename."""
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(handle: int) -> None:
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"-> {target.name}")
        return rename(path, target)

    with open_stage(tmp_path) as stage, locked(tmp_path):
        (stage / "a").touch()
        (stage / "b").touch()
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "rename", renamed)
        commit(stage)

    turn = done.index("-> .committed")
    assert {*done[:turn]} == {"a", "b", stage.name}
    assert done[turn - 1] == stage.name
    assert done[turn + 1] == tmp_path.name


def test_a_commit_that_a_crash_interrupted_is_completed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / ".committed").mkdir()
    for name in ("a", "b"):
        (tmp_path / ".committed" / name).write_text("new")

    finish_commit(tmp_path)
    finish_commit(tmp_path)

    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "new"


def test_stages_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    (tmp_path / ".dead.partial").mkdir()

    with open_stage(tmp_path) as stage:
        (stage / "a").touch()
        with open_stage(tmp_path), locked(tmp_path):
            remove_dead_stages(tmp_path)
        assert (stage / "a").exists()

    assert not (tmp_path / ".dead.partial").exists()


def test_a_folder_appears_whole_where_none_or_an_empty_one_was(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for target in (tmp_path / "there", tmp_path / "new"):
        with atomic_folder(target) as partial:
            (partial / "a").touch()
            assert not (target / "a").exists()

        assert names(target) == ["a"]
        assert target.stat().st_mode & 0o777 == 0o755
    assert names(tmp_path) == ["new", "there"]


def test_a_folder_that_fails_leaves_nothing_and_replaces_nothing(tmp_path: Path) -> None:
    target = tmp_path / "shards"
    with pytest.raises(OSError, match="disk full"), atomic_folder(target) as partial:  # noqa: PT012
        (partial / "half").touch()
        raise OSError("disk full")
    assert names(tmp_path) == []

    target.mkdir()
    (target / "old").touch()
    with pytest.raises(OSError, match="not empty"), atomic_folder(target) as partial:
        (partial / "new").touch()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["shards"]


def test_what_a_killed_process_left_of_a_folder_goes_and_what_a_living_one_makes_stays(tmp_path: Path) -> None:
    (tmp_path / ".shards.dead.partial").mkdir()
    (tmp_path / ".others.dead.partial").mkdir()

    with atomic_folder(tmp_path / "shards") as first:
        (first / "a").touch()
        with atomic_folder(tmp_path / "shards2"), contextlib.suppress(OSError), atomic_folder(tmp_path / "shards"):
            pass

    assert names(tmp_path) == [".others.dead.partial", "shards", "shards2"]
    assert names(tmp_path / "shards") == ["a"]


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
