"""The training loop: settings and pairs in, a trained run out, step by step."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import torch

from cyclegan_edge.errors import ConfigError, TrainError
from cyclegan_edge.train.checkpoint import load_checkpoint
from cyclegan_edge.train.checkpoint_files import check_unused, find_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.loader import PairBatch, batches
from cyclegan_edge.train.data.pairs import Pairs
from cyclegan_edge.train.distributed import ProcessGroup
from cyclegan_edge.train.execution import Execution, allow_tf32, resolve
from cyclegan_edge.train.progress import Clock, Progress, progress_at
from cyclegan_edge.train.run_writer import RunWriter, gradient_norms, memory
from cyclegan_edge.train.runs import hold
from cyclegan_edge.train.schedule import Position, is_over, learning_rate_factor
from cyclegan_edge.train.state import TrainState, new_state
from cyclegan_edge.train.step import Losses, Pictures, Step
from cyclegan_edge.train.warm_start import WarmStart

MAX_NONFINITE_STEPS = 50  # in a row, after which a run gives up


class DeviceChosen(Protocol):
    """Settings that say where to train."""

    @property
    def device(self) -> Literal["auto", "cuda", "cpu"]: ...


def choose_device(config: DeviceChosen) -> torch.device:
    """CUDA when there is one and the settings allow it. Raises ConfigError when CUDA is asked for and missing."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', but torch sees no CUDA device; check `cyclegan-edge doctor`, or use device=cpu."
        )
    if config.device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def choose_execution(config: TrainConfig, group: ProcessGroup | None = None) -> Execution:
    """What the speed settings mean here. Raises ConfigError for what this device or number of processes rules out."""
    count = group.world_size if group else 1
    if config.batch % count:
        raise ConfigError(
            f"batch is {config.batch}, but {count} processes share it; set batch={count} or another multiple of it."
        )
    return resolve(
        config.speed,
        choose_device(config),
        size=config.size,
        batch=config.batch // count,
        world_size=count,
    )


def fit(
    config: TrainConfig,
    pairs: Pairs,
    run: Path,
    *,
    resume: Path | None = None,
    start: WarmStart | None = None,
    stop: Callable[[], bool] = lambda: False,
    group: ProcessGroup | None = None,
    held: bool = False,
) -> Iterator[Progress]:
    """Train, yielding after every step, and leave a checkpoint and a report at the end.

    `resume` is the checkpoint to go on from, `start` what a run that begins takes from a trained model. When `stop`
    returns True after a step, that step is saved and the run ends; continuing it later gives what an uninterrupted run
    would have given. `group` are the processes that train together; the first of them writes. The folder `run` is held
    until the end, unless the caller has it `held` already, by `runs.hold`.

    Raises TrainError when the losses stay non-finite, another process trains in `run`, or it holds checkpoints that a
    new training would replace; ConfigError for a `start` that is not the origin in `config`.
    """
    group = group or ProcessGroup()
    if group.is_main:
        check_unused(run, resume)
    with contextlib.nullcontext() if held or not group.is_main else hold(run, new=False):
        yield from _train(config, pairs, run, resume=resume, start=start, stop=stop, group=group)


def _train(
    config: TrainConfig,
    pairs: Pairs,
    run: Path,
    *,
    resume: Path | None,
    start: WarmStart | None,
    stop: Callable[[], bool],
    group: ProcessGroup,
) -> Iterator[Progress]:
    device, execution = choose_device(config), choose_execution(config, group)
    allow_tf32(execution)
    torch.manual_seed(config.seed)
    if resume:
        _, state = load_checkpoint(resume, device, config)
    elif config.origin != (start.origin if start else None):
        raise ConfigError("The settings and `start` are of different models; pass what new_run gave, start=run.start.")
    else:
        state = new_state(config, device, start.networks if start else {})
    if not group.is_main:
        torch.manual_seed(hash((config.seed, group.rank, state.step)))
    writer = RunWriter(run, config, state, pairs, device) if group.is_main else None
    step = Step(state, config.objective, execution, group)
    prefetcher = DevicePrefetcher(_crops(config, pairs, state, group, pin=device.type == "cuda"), device)
    clock = Clock(state.seconds, config.batch, config.schedule, group)
    steps_per_epoch = max(1, len(pairs) // config.batch)
    try:
        while not is_over(config.schedule, at := Position(state.step, steps_per_epoch, state.seconds)):
            rate = config.optimiser.learning_rate * state.back_off
            rate *= learning_rate_factor(config.schedule, at, state.plateau.factor)
            _set_learning_rate(state, rate)
            losses, pictures = step(*next(prefetcher))
            prefetcher.prefetch()
            if state.step % steps_per_epoch == 0:
                _end_epoch(config, state, group)
            pairs_per_second, state.seconds = clock.tick()
            after = Position(state.step, steps_per_epoch, state.seconds)
            last = is_over(config.schedule, after) or group.any(stop())

            logged, warnings = None, list[str]()
            if last or state.step % config.output.log_every == 0:
                logged = _read(losses, group)
                warnings += _check_finite(state, run)
                waited = prefetcher.wait_share()
                scalars = {
                    "learning_rate": rate,
                    "pairs_per_second": pairs_per_second,
                    "data_wait_share": waited,
                }
                if writer:
                    warnings += writer.log(logged, {**scalars, **gradient_norms(state), **memory(device)})
            sample = checkpoint = None
            if writer:
                sample, checkpoint = _write_due(writer, config, state, pictures, warnings, last=last)
            yield progress_at(
                after,
                config.schedule,
                per_second=pairs_per_second,
                batch=config.batch,
                losses=logged,
                sample=sample,
                checkpoint=checkpoint,
                warnings=warnings,
            )
            if last:
                break
    finally:
        prefetcher.close()
        if writer:
            writer.close()


def _crops(
    config: TrainConfig, pairs: Pairs, state: TrainState, group: ProcessGroup, *, pin: bool
) -> Iterator[PairBatch]:
    return batches(
        pairs,
        config.crops,
        batch=config.batch,
        start=state.pairs,
        workers=config.pictures.workers,
        rank=group.rank,
        world_size=group.world_size,
        pin=pin,
    )


def _write_due(
    writer: RunWriter, config: TrainConfig, state: TrainState, pictures: Pictures, warnings: list[str], *, last: bool
) -> tuple[Path | None, Path | None]:
    """The sample and the checkpoint that were written after this step; `warnings` grows by those about the pictures."""
    output, sample, best = config.output, None, False
    if last or state.step % output.sample_every == 0:
        sample, seen = writer.sample(pictures)
        warnings += seen
    if output.evaluate_every and (last or state.step % output.evaluate_every == 0):
        best = writer.is_best()
    writer.files.warn(warnings)
    due = last or best or state.step % output.save_every == 0
    checkpoint = writer.save(best=best) if due else None
    if last:
        writer.files.report()
    warnings += writer.files.refused()
    return sample, checkpoint


class DevicePrefetcher:
    """Batches on the device, and the share of the time that was spent waiting for them.

    On CUDA a stream of its own copies the next batch while the step that was launched before computes.
    """

    def __init__(self, loader: Iterator[PairBatch], device: torch.device) -> None:
        self._loader, self._device = loader, device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._prefetched: PairBatch | None = None
        self._waiting, self._since = 0.0, time.monotonic()

    def __next__(self) -> PairBatch:
        batch = self._prefetched or self._load()
        self._prefetched = None
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
            for pictures in batch:  # their memory must not be reused while the step reads them
                pictures.record_stream(torch.cuda.current_stream(self._device))
        return batch

    def prefetch(self) -> None:
        """Start the copy of the next batch; call it once a step is launched."""
        if self._stream is not None:
            self._prefetched = self._load()

    def wait_share(self) -> float:
        """Of the time since the last call, 0..1."""
        now = time.monotonic()
        share = self._waiting / max(now - self._since, 1e-9)
        self._waiting, self._since = 0.0, now
        return share

    def close(self) -> None:
        self._loader.close()  # type: ignore[attr-defined]  # it is a generator

    def _load(self) -> PairBatch:
        start = time.monotonic()
        real_a, real_b = next(self._loader)
        self._waiting += time.monotonic() - start
        with torch.cuda.stream(self._stream):  # does nothing without one
            return real_a.to(self._device, non_blocking=True), real_b.to(self._device, non_blocking=True)


def _set_learning_rate(state: TrainState, rate: float) -> None:
    for optimiser in (state.generators, state.discriminators):
        for group in optimiser.param_groups:
            group["lr"] = rate


def _end_epoch(config: TrainConfig, state: TrainState, group: ProcessGroup) -> None:
    if config.schedule.policy == "plateau":  # the one policy that has to look, and to wait for the device
        state.plateau.step(float(group.all_reduce_mean(state.cycle_sum)) / max(1, state.cycle_count))
    state.cycle_sum, state.cycle_count = torch.zeros_like(state.cycle_sum), 0


def _read(losses: Losses, group: ProcessGroup) -> dict[str, float]:
    means = group.all_reduce_mean(torch.stack(losses)).tolist()  # one wait for the device, not eight
    return dict(zip(losses._fields, means, strict=True))


def _check_finite(state: TrainState, run: Path) -> list[str]:
    """Halve the learning rate while losses are non-finite (their updates were skipped), and give up in the end."""
    bad = int(state.bad_steps)
    if bad == 0:
        return []
    if bad >= MAX_NONFINITE_STEPS:
        good = find_checkpoint(run)
        raise TrainError(
            f"The losses have been non-finite for {bad} steps in a row, so training has stopped; "
            + (f"{good} is the last good checkpoint: continue from it" if good else "start again")
            + f" with a lower rate, for instance --set optimiser.learning_rate={state.back_off * 1e-4:.0e}, "
            "or with --set speed.precision=fp32."
        )
    state.back_off /= 2.0
    return [
        f"Step {state.step}: the losses were non-finite for {bad} steps in a row; those updates were skipped and the "
        f"learning rate is halved from here on."
    ]
