"""The loop of a distillation: the teacher's pictures in, a student out, step by step."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cyclegan_edge.contract import Picture, to_signal
from cyclegan_edge.errors import ConfigError, FeatureError, TrainError
from cyclegan_edge.images import list_images
from cyclegan_edge.train.checkpoint_files import check_unused, find_checkpoint
from cyclegan_edge.train.data.crops import LUMA
from cyclegan_edge.train.data.layout import require_folder
from cyclegan_edge.train.distill.config import DistillConfig
from cyclegan_edge.train.distill.kept import Pixels
from cyclegan_edge.train.distill.reshape import reshaped
from cyclegan_edge.train.distill.state import DistillState, load_state, new_state, save_state
from cyclegan_edge.train.distill.step import DistillStep, FeatureSpace, new_heads
from cyclegan_edge.train.distill.teacher import TaughtPictures
from cyclegan_edge.train.distributed import ProcessGroup
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.execution import Execution, ExecutionConfig, resolve
from cyclegan_edge.train.imagenet import efficientnet
from cyclegan_edge.train.progress import Clock, Progress, progress_at
from cyclegan_edge.train.run_files import RunFiles
from cyclegan_edge.train.run_writer import memory
from cyclegan_edge.train.samples import arrange
from cyclegan_edge.train.schedule import Position, is_over, learning_rate_factor
from cyclegan_edge.train.warm_start import WarmStart

_SCALED_BY = 16  # of the teacher's pictures, whose deviation the features are divided by
_SAMPLES = 4  # rows of a sample sheet
_WARM_UP = 100  # steps in which the learning rate rises


def choose_execution(config: DistillConfig, device: torch.device) -> Execution:
    """How a step computes on `device`."""
    plain = ExecutionConfig(precision=config.precision, compile="off", cuda_graphs="off", checkpointing="off")
    return resolve(plain, device, size=config.size, batch=config.batch)


def pictures_of(config: DistillConfig, what: Literal["source", "real"]) -> list[Path]:
    """Those that the teacher is to translate, or those of the domain that it translates into.

    Raises DataError without a folder of them."""
    folder = "trainA" if (config.direction == "ab") == (what == "source") else "trainB"
    return list_images(require_folder(Path(config.data), folder, config.domains))


def distill(
    config: DistillConfig,
    taught: TaughtPictures,
    run: Path,
    *,
    device: torch.device,
    channels: tuple[int, int] = (3, 3),
    resume: Path | None = None,
    start: WarmStart | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Teach the student, yielding after every step, and leave a checkpoint and a report at the end.

    channels   1 or 3, of the pictures that the teacher takes and gives: the student's are the same

    `resume` is the checkpoint to go on from, `start` the student that a new run begins with. When `stop` returns True
    after a step, that step is saved and the run ends; continuing it later gives what an uninterrupted run would have
    given. Raises TrainError when the losses are not finite or `run` holds checkpoints that a new run would replace,
    ConfigError where the ImageNet network is needed and missing, or `start` is not the origin in `config` or of a shape
    that the student's cannot come from.
    """
    check_unused(run, resume)
    execution = choose_execution(config, device)
    space = _feature_space(taught, device, channels[1]) if config.objective.in_features else None
    heads = new_heads()
    if resume:
        state = load_state(resume, config, device, heads)
    else:
        if config.origin != (start.origin if start else None):
            raise ConfigError("The settings and `start` are of different students; pass origin=start.origin.")
        weights = None
        if start:
            taken = start.networks[f"generator_{config.direction}"]
            weights = reshaped(taken, start.generator, config.generator, seed=config.seed)
        state = new_state(config, device, heads, channels, weights)
    step = DistillStep(state, config.objective, execution, space)
    files = RunFiles(run, config, step=state.step)
    clock = Clock(state.seconds, config.batch, config.schedule, ProcessGroup())
    per_epoch = max(1, len(taught) // config.batch)
    try:
        while not is_over(config.schedule, at := Position(state.step, per_epoch, state.seconds)):
            rate = config.optimiser.learning_rate * learning_rate_factor(config.schedule, at)
            rate *= min(1.0, (state.step + 1) / _WARM_UP)
            for group in state.optimiser.param_groups:
                group["lr"] = rate
            pictures = taught.batch(config.seed, state.step, count=config.batch, crop=config.size)
            source, target = (_signal(one, count, device) for one, count in zip(pictures, channels, strict=True))
            share = config.objective.real if config.objective.adversarial else 0.0
            others = taught.real_batch(config.seed, state.step, count=config.batch, crop=config.size, share=share)
            real = None if others is None else _signal(others, channels[1], device)
            losses, _ = step(source, target, real)
            speed, state.seconds = clock.tick()
            after = Position(state.step, per_epoch, state.seconds)
            last = is_over(config.schedule, after) or stop()

            logged = sample = checkpoint = None
            if last or state.step % config.output.log_every == 0:
                logged = dict(zip(losses._fields, torch.stack(losses).tolist(), strict=True))
                _check_finite(logged, state, run)
                scalars = {"learning_rate": rate, "pairs_per_second": speed, **memory(device)}
                values = {**{f"loss/{name}": value for name, value in logged.items()}, **scalars}
                files.write(values, step=state.step, seconds=state.seconds)
            if last or state.step % config.output.sample_every == 0:
                sample = files.write_sample(_sheet(taught, state), step=state.step)
            if last or state.step % config.output.save_every == 0:
                checkpoint = save_state(run, config, state, channels)
            if last:
                files.report()
            yield progress_at(
                after,
                config.schedule,
                per_second=speed,
                batch=config.batch,
                losses=logged,
                sample=sample,
                checkpoint=checkpoint,
                warnings=files.refused(),
            )
            if last:
                break
    finally:
        files.close(step=state.step)


def _feature_space(taught: TaughtPictures, device: torch.device, channels: int) -> FeatureSpace:
    pixels = taught.sizes[0]
    some = pixels[:: max(1, len(pixels) // _SCALED_BY)][:_SCALED_BY, 1]
    try:
        network = efficientnet("efficientnet-lite0").to(device)
    except FeatureError as error:
        raise ConfigError(
            f"{error} Or leave out the terms that need them: --set objective.features=0 --set objective.gram=0 --set "
            f"objective.adversarial=0."
        ) from error
    return FeatureSpace(network, _signal(some, channels, device).expand(-1, 3, -1, -1)).to(device)


def _signal(pictures: Pixels, channels: int, device: torch.device) -> Tensor:
    """uint8 (N, S, S, 3) -> float32 (N, channels, S, S) in -1..1; grey is their luma."""
    x = to_signal(torch.from_numpy(np.ascontiguousarray(pictures)).to(device).float().permute(0, 3, 1, 2))
    if channels == 1:
        x = LUMA[0] * x[:, 0:1] + LUMA[1] * x[:, 1:2] + LUMA[2] * x[:, 2:3]
    return x.contiguous()


def _sheet(taught: TaughtPictures, state: DistillState) -> Picture:
    """Picture, student, teacher, as an export would make it now."""
    pixels, translate = taught.sizes[0], translate_with(state.average, finite=False)
    count = min(_SAMPLES, len(pixels))
    rows: Sequence[Sequence[Picture]] = [
        [source, translate(np.array(source)[np.newaxis])[0], target]
        for source, target in pixels[:: max(1, len(pixels) // count)][:count]
    ]
    return arrange(rows)


def _check_finite(losses: dict[str, float], state: DistillState, run: Path) -> None:
    if all(map(np.isfinite, losses.values())):
        return
    good = find_checkpoint(run)
    raise TrainError(
        f"The losses at step {state.step} are not finite, so the run has stopped; "
        + (f"continue from {good} with --resume" if good else "start again")
        + " and a lower rate, for instance --set optimiser.learning_rate=1e-4, or with --set precision=fp32."
    )
