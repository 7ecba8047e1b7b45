"""Runs on disk: start one, find one, go on with one, hold it against other processes, open its data.

    runs/horse2zebra/checkpoints/step_0001000.pt
    runs/horse2zebra/evaluation/step_0001000.json

Nothing here changes a run; `loop.fit` does.
"""

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cyclegan_edge.commit import is_still
from cyclegan_edge.contract import Direction, Picture
from cyclegan_edge.errors import CheckpointError, ConfigError, SinkError, TrainError
from cyclegan_edge.files import newest
from cyclegan_edge.images import other_kinds
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.settings import changed, load_settings
from cyclegan_edge.train.checkpoint import last_readable
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.checkpoint_format import config_of, read_content
from cyclegan_edge.train.config import PRESETS, Preset, TrainConfig
from cyclegan_edge.train.data.cache import PictureCache
from cyclegan_edge.train.data.folders import FolderPairs, find_pictures
from cyclegan_edge.train.data.pairs import DOMAINS, Pairs, ProgressCallback, ignore_progress
from cyclegan_edge.train.data.shard_index import find_shards, is_shards
from cyclegan_edge.train.data.shards import ShardPairs
from cyclegan_edge.train.warm_start import WarmStart

T = TypeVar("T")

RUNS = Path("runs")  # where runs are written and looked for

_CHECKPOINTS = "checkpoints"
_FIXED = (
    *("size", "seed", "start", "start_gain", "origin"),
    *("generator", "discriminator", "pictures.colour_a", "pictures.colour_b"),
)
_END_RULES = ("schedule.epochs", "schedule.steps", "schedule.minutes")
_DIRECTION = re.compile(r".*[-_.](ab|atob|a2b|ba|btoa|b2a)", re.IGNORECASE)
_ANY_GENERATOR = re.compile(r"(?:\w*?_)?net_?G(?:_?(A2B|AtoB|A|B2A|BtoA|B))?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Where a run is written, everything that decides it, and the checkpoint that it goes on from."""

    folder: Path
    config: TrainConfig
    checkpoint: Path | None = None  # None: it starts
    start: WarmStart | None = None  # what it takes from a trained model when it starts
    changed: tuple[str, ...] = ()  # dotted names of the settings that differ from the checkpoint's
    damaged: tuple[str, ...] = ()  # later checkpoints that cannot be read, a sentence each


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedData:
    """The pairs of a run, and what to say about them."""

    pairs: Pairs
    counts: tuple[int, int]  # pictures of A and of B
    sharded: bool
    folders: tuple[str, str] = DOMAINS  # where A and B are
    unread: tuple[str, ...] = ()  # the kinds of files that nothing reads, a sentence for each folder
    skipped: tuple[str, ...] = ()  # files that cannot be read, a sentence each


def new_run(
    overrides: Mapping[str, object],
    *,
    name: str | None = None,
    preset: Preset = "paper",
    file: Path | None = None,
    assignments: Sequence[str] = (),
    start: WarmStart | None = None,
) -> Run:
    """A run that starts, in runs/NAME, by default the name of its data; `hold` finds a folder that is free.

    overrides     settings by dotted name; "data" must be here or in `file`
    file          TOML; assignments, "key=value", win over it, and overrides over those
    start         a trained model to start from; it decides the shapes of the networks that it holds

    Raises ConfigError.
    """
    if "data" not in overrides and file is None:
        raise ConfigError(
            "No data: name the folder that holds trainA/ and trainB/, as in `cyclegan-edge train horse2zebra`."
        )
    base = PRESETS[preset]
    if start:
        base, overrides = {**base, **start.settings}, {**overrides, "origin": to_mapping(start.origin)}
    config = load_settings(TrainConfig, file, assignments, base=base, overrides=overrides)
    if start:
        start.check(config)
    elif config.origin:
        raise ConfigError(
            f"The settings are of a run that started from {config.origin.file}; add --from {config.origin.file}, or "
            f"take [origin] out of them."
        )
    folder = RUNS / (name or _data_name(config.data))
    for path in (config.data, str(folder), *([config.origin.file] if config.origin else [])):
        if "\\udc" in ascii(path):  # what Python makes of other bytes; settings.toml and report.html are UTF-8
            raise ConfigError(f"The name {path!r} is not UTF-8; rename the folder, or choose another name.")
    return Run(folder=folder, config=config, start=start)


def resume_run(
    overrides: Mapping[str, object],
    *,
    name: str | None = None,
    checkpoint: Path | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
) -> Run:
    """runs/NAME, or the newest run, from its last readable checkpoint on, or the run of `checkpoint` from there, with
    its settings save those given as in `new_run`.

    A new rule for the end of the run takes the place of the old one. Raises CheckpointError, and ConfigError for a
    setting that the networks or the order of the pictures depend on.
    """
    damaged: tuple[str, ...] = ()
    if checkpoint is None:
        folder = RUNS / name if name else newest_run()
        checkpoint, before, damaged = last_readable(folder)
    else:
        folder = _run_that_goes_on(checkpoint, name)
        before = config_of(read_content(checkpoint), checkpoint)
    config, different = changed_settings(before, overrides, file=file, assignments=assignments, fixed=_FIXED)
    return Run(folder=folder, config=config, checkpoint=checkpoint, changed=different, damaged=damaged)


def changed_settings(
    before: T,
    overrides: Mapping[str, object],
    *,
    file: Path | None,
    assignments: Sequence[str],
    fixed: Sequence[str],
) -> tuple[T, tuple[str, ...]]:
    """The settings that a run goes on with, and the dotted names of those that are others than `before`.

    A new rule for the end of the run takes the place of the old one. Raises ConfigError when one of `fixed` differs,
    which are names of settings or of whole tables.
    """
    if any(rule in overrides for rule in _END_RULES):
        overrides = {**dict.fromkeys(_END_RULES), **overrides}
    config = load_settings(type(before), file, assignments, base=to_mapping(before), overrides=overrides)
    different = changed(before, config)
    if kept := [key for key in different if key in fixed or key.partition(".")[0] in fixed]:
        raise ConfigError(
            f"{kept[0]} cannot change on the way: the networks or the order of the pictures depend on it; "
            f"start a new run, or leave it as it is."
        )
    return config, tuple(different)


def _run_that_goes_on(checkpoint: Path, name: str | None) -> Path:
    """The run of a checkpoint. Raises ConfigError when it lies in none, or in another than runs/NAME."""
    run = run_of(checkpoint)
    if run is None or (name and run.resolve() != (RUNS / name).resolve()):
        expected = RUNS / (name or "NAME") / _CHECKPOINTS
        raise ConfigError(f"The checkpoint is {checkpoint}, expected a file in {expected}; name one, or leave it out.")
    return run


def newest_run() -> Path:
    """The run that saved last. Raises CheckpointError when there is none."""
    run = newest(RUNS, _CHECKPOINTS)
    if run is None:
        raise CheckpointError(f"There is no run in {RUNS}; train one with `cyclegan-edge train DATA`.")
    return run


@contextlib.contextmanager
def hold(folder: Path, *, new: bool) -> Iterator[Path]:
    """The folder that this process alone trains in until the block ends, or the process does, however that happens.

    new     `folder`, or folder-2, folder-3 and so on where there is a run already; removed again when nothing was
            written to it

    On a file system without locks, everyone is let in. Raises TrainError when another process holds a run that is to
    go on, SinkError when nothing can be written there.
    """
    wanted, number = folder, 1
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
            tempfile.TemporaryFile(dir=folder).close()
        except FileNotFoundError:  # whoever held it removes it just now
            continue
        except OSError as error:
            raise SinkError(
                f"{folder} cannot be written ({error.strerror}); check its rights and the free space."
            ) from error
        try:
            alone = _try_lock(handle)
            if alone and not is_still(folder, handle):
                continue
            if alone and not (new and any(folder.iterdir())):
                try:
                    yield folder
                finally:
                    with contextlib.suppress(OSError):
                        folder.rmdir()  # refuses when there is anything in it
                return
        finally:
            os.close(handle)
        if not new:
            raise TrainError(
                f"Another process is training in {folder}; stop it first, or start a new run with `cyclegan-edge train "
                f"DATA --name NAME`."
            )
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")


def open_data(config: TrainConfig, *, on_progress: ProgressCallback = ignore_progress) -> OpenedData:
    """The pictures that `config` names: two folders, whose every file is looked at now, or shards. Raises DataError."""
    if is_shards(config.data):
        shards = ShardPairs(find_shards(config.data), seed=config.seed, check=config.crops.check)
        a, b = shards.counts.values()
        return OpenedData(pairs=shards, counts=(a, b), sharded=True)
    cache, crops = PictureCache(config.pictures.cache_mib), config.crops

    def read(path: Path) -> Picture:
        return crops.check(cache.read(path), str(path))

    folders = find_pictures(
        Path(config.data),
        domains=config.domains,
        workers=config.pictures.workers,
        read=read,
        on_progress=on_progress,
    )
    places = folders.a[0].parent, folders.b[0].parent
    return OpenedData(
        pairs=FolderPairs(folders, config.seed, read),
        counts=(len(folders.a), len(folders.b)),
        sharded=False,
        folders=(str(places[0].relative_to(config.data)), str(places[1].relative_to(config.data))),
        unread=tuple(
            f"{place} holds {kinds}, which nothing reads." for place in places if (kinds := other_kinds(place))
        ),
        skipped=tuple(problem for _, problem in folders.skipped),
    )


def resolve_checkpoint(source: Path | None) -> tuple[str, Path]:
    """What to call it, and the checkpoint that `source` means: a run, anyone's file, or None for the newest run.

    Raises CheckpointError when there is none.
    """
    if source is not None and source.is_file():
        run = run_of(source)
        if run is not None and source.stem.startswith("step_"):
            return run.resolve().name, source
        return model_name(source), source
    folder = source if source is not None else newest_run()
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        raise CheckpointError(
            f"{folder} is neither a checkpoint, a run with checkpoints, nor a bundle; name one of those."
        )
    return folder.resolve().name, checkpoint


def run_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint file belongs to; None when it does not lie where a run keeps its checkpoints."""
    if checkpoint.resolve().parent.name != _CHECKPOINTS:
        return None
    whole = checkpoint if len(checkpoint.parents) > 1 else checkpoint.resolve()
    return whole.parents[1]


def evaluation_path(checkpoint: Path, direction: Direction) -> Path:
    """Where the evaluation of a checkpoint is stored: in its run, or beside a file that lies in none."""
    name = f"{checkpoint.stem}.json" if direction == "ab" else f"{checkpoint.stem}-{direction}.json"
    run = run_of(checkpoint)
    return run / "evaluation" / name if run else checkpoint.with_name(name)


def model_name(file: Path) -> str:
    """What to call the generator in `file`: its name, or its folder's where the name is that of any generator.

    checkpoints/horse2zebra/latest_net_G_A.pth is horse2zebra, and latest_net_G_B.pth is horse2zebra-ba.
    """
    folder = file.resolve().parent.name
    if not _ANY_GENERATOR.fullmatch(file.stem) or not folder:
        return file.stem
    return with_direction(folder, direction_of(file))


def direction_of(file: Path) -> Direction:
    """What the name of a generator's file says: "ba" of horse2zebra_ba.pth and latest_net_G_B.pth, else "ab"."""
    match = _ANY_GENERATOR.fullmatch(file.stem) or _DIRECTION.fullmatch(file.stem)
    return "ba" if match and (match[1] or "").upper().startswith("B") else "ab"


def with_direction(name: str, direction: Direction) -> str:
    """The name of a generator's files: "horse2zebra", "horse2zebra-ba"."""
    return name if direction == "ab" or name.endswith("-ba") else f"{name}-{direction}"


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        pass
    return True


def _data_name(data: str) -> str:
    """ "/pictures/horse2zebra" -> "horse2zebra", "shards/{0000..0099}.tar" -> "shards"."""
    path = Path(data).resolve()
    return (path.parent if path.suffix == ".tar" else path).name.partition(".")[0] or "run"
