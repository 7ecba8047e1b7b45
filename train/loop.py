"""The training loop: settings and pairs in, checkpoints, samples and TensorBoard curves out.

runs/<name>/settings.toml             what decides the weights
runs/<name>/checkpoints/step_N.pt     the last ones, and best.pt when the run is evaluated
runs/<name>/samples/step_N.jpg        per domain: real, translated, there and back
runs/<name>/events.out.tfevents...    losses, gradients, learning rate, pairs per second, share of waiting, memory
"""

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from cyclegan_edge.errors import ConfigError, TrainError
from cyclegan_edge.files import atomic_file
from cyclegan_edge.images import write_image
from cyclegan_edge.settings import to_mapping, to_toml
from cyclegan_edge.train.best import Judge
from cyclegan_edge.train.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data import Batch, Crops, Pairs, batches
from cyclegan_edge.train.ranks import Ranks
from cyclegan_edge.train.schedule import Position, is_over, learning_rate_factor, share_done
from cyclegan_edge.train.speed import Speed, allow_tf32, resolve
from cyclegan_edge.train.state import TrainState, new_state
from cyclegan_edge.train.step import Losses, Pictures, Step

BORNE = 50  # steps in a row with losses that are no numbers, after which a run gives up

_SMOOTHING = 20  # steps that the speed shown is averaged over


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run has come."""

    step: int  # steps taken
    total: int | None  # steps of the whole run; None when the clock decides
    share: float  # of the run that is done, 0..1
    pairs_per_second: float  # over the last steps, saving and sampling included
    losses: dict[str, float] | None  # unweighted, of this step; None between two logged steps
    sample: Path | None = None  # written at this step
    checkpoint: Path | None = None  # written at this step
    warnings: tuple[str, ...] = field(default=())  # sentences about trouble


def choose_device(config: TrainConfig) -> torch.device:
    """CUDA when there is one and the settings allow it. Raises ConfigError when CUDA is asked for and missing."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', but torch sees no CUDA device; check `cyclegan-edge doctor`, or use device=cpu."
        )
    if config.device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def choose_speed(config: TrainConfig, ranks: Ranks | None = None) -> Speed:
    """What the speed settings mean here. Raises ConfigError for what this device or number of processes rules out."""
    count = ranks.count if ranks else 1
    if config.batch % count:
        raise ConfigError(
            f"batch is {config.batch}, but {count} processes share it; set batch={count} or another multiple of it."
        )
    return resolve(
        config.speed,
        choose_device(config),
        size=config.size,
        batch=config.batch // count,
        ranks=count,
        penalty=config.objective.gan == "wgangp",
    )


def fit(
    config: TrainConfig,
    pairs: Pairs,
    run: Path,
    *,
    resume: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> Iterator[Progress]:
    """Train, yielding after every step, and leave a checkpoint at the end.

    `resume` is the checkpoint to go on from. When `stop` answers True after a step, that step is saved and the run
    ends; continuing it later gives what an uninterrupted run would have given. `ranks` are the processes that train
    together; the first of them writes. Raises TrainError when the losses stay no numbers.
    """
    ranks = ranks or Ranks()
    device, speed = choose_device(config), choose_speed(config, ranks)
    allow_tf32(speed)
    torch.manual_seed(config.seed)
    state = load_checkpoint(resume, device, config)[1] if resume else new_state(config, device)
    if not ranks.first:
        torch.manual_seed(hash((config.seed, ranks.rank, state.step)))
    writer = _open(run, config, state) if ranks.first else None
    judge = Judge(config, device) if config.output.evaluate_every and ranks.first else None
    step = Step(state, config.objective, speed, ranks)
    waited = _Waited(_crops(config, pairs, state, ranks, pin=device.type == "cuda"))
    pace = _Pace()
    steps_per_epoch = max(1, len(pairs) // config.batch)
    began, before = time.monotonic(), state.seconds
    try:
        while not is_over(config.schedule, at := Position(state.step, steps_per_epoch, state.seconds)):
            rate = config.optimiser.learning_rate * state.back_off
            rate *= learning_rate_factor(config.schedule, at, state.plateau.factor)
            _set_learning_rate(state, rate)
            real_a, real_b = next(waited)
            losses, pictures = step(real_a.to(device, non_blocking=True), real_b.to(device, non_blocking=True))
            if state.step % steps_per_epoch == 0:
                _end_epoch(config, state, ranks)
            seconds = before + time.monotonic() - began
            state.seconds = ranks.first_says(seconds) if config.schedule.minutes is not None else seconds
            after = Position(state.step, steps_per_epoch, state.seconds)
            last = is_over(config.schedule, after) or ranks.any(stop())
            pace.tick(config.batch)
            scalars: dict[str, float] = {}
            logged: dict[str, float] | None = None
            warnings: tuple[str, ...] = ()
            if last or state.step % config.output.log_every == 0:
                logged = _read(losses, ranks)
                warnings = _back_off(state, run)
                scalars |= {f"loss/{name}": value for name, value in logged.items()}
                scalars |= _gradient_norms(state) | _machine(device)
                scalars |= {"learning_rate": rate, "pairs_per_second": pace(), "data_wait_share": waited.share()}
            best = False
            if judge and (last or state.step % config.output.evaluate_every == 0):
                figures, best = judge(state)
                scalars |= {f"evaluation/{name}": value for name, value in figures.items()}
            if writer:
                for name, value in scalars.items():
                    writer.add_scalar(name, value, state.step)
            sample = checkpoint = None
            if writer and (last or state.step % config.output.sample_every == 0):
                sample = _save_sample(run, writer, pictures, state.step)
            if writer and (last or best or state.step % config.output.save_every == 0):
                checkpoint = save_checkpoint(run, config, state, best=best)
            yield Progress(
                step=state.step,
                total=config.schedule.total_steps(steps_per_epoch),
                share=share_done(config.schedule, after),
                pairs_per_second=pace(),
                losses=logged,
                sample=sample,
                checkpoint=checkpoint,
                warnings=warnings,
            )
            if last:
                break
    finally:
        waited.close()
        if writer:
            writer.close()


def _open(run: Path, config: TrainConfig, state: TrainState) -> SummaryWriter:
    run.mkdir(parents=True, exist_ok=True)
    with atomic_file(run / "settings.toml") as partial:
        partial.write_text(to_toml(config), encoding="utf-8")
    if config.output.wandb:
        import wandb

        wandb.init(project="cyclegan-edge", name=run.name, dir=run, config=to_mapping(config), sync_tensorboard=True)
    return SummaryWriter(str(run), purge_step=state.step + 1)


def _crops(config: TrainConfig, pairs: Pairs, state: TrainState, ranks: Ranks, *, pin: bool) -> Iterator[Batch]:
    crops = Crops(
        pictures=config.pictures,
        load_size=config.load_size,
        size=config.size,
        multiple=config.generator.multiple,
        seed=config.seed,
    )
    return batches(
        pairs,
        crops,
        batch=config.batch,
        start=state.pairs,
        workers=config.pictures.workers,
        rank=ranks.rank,
        ranks=ranks.count,
        pin=pin,
    )


class _Waited:
    """Batches, and the share of the time that was spent waiting for them."""

    def __init__(self, loader: Iterator[Batch]) -> None:
        self._loader = loader
        self._waiting, self._since = 0.0, time.monotonic()

    def __next__(self) -> Batch:
        began = time.monotonic()
        batch = next(self._loader)
        self._waiting += time.monotonic() - began
        return batch

    def share(self) -> float:
        """Since the last call, 0..1."""
        now = time.monotonic()
        share = self._waiting / max(now - self._since, 1e-9)
        self._waiting, self._since = 0.0, now
        return share

    def close(self) -> None:
        self._loader.close()  # type: ignore[attr-defined]  # it is a generator


class _Pace:
    """Pairs per second over the last steps."""

    def __init__(self) -> None:
        self._times = [time.monotonic()]
        self._pairs = 0

    def tick(self, pairs: int) -> None:
        self._times = [*self._times[-_SMOOTHING:], time.monotonic()]
        self._pairs = pairs

    def __call__(self) -> float:
        return self._pairs * (len(self._times) - 1) / (self._times[-1] - self._times[0])


def _set_learning_rate(state: TrainState, rate: float) -> None:
    for optimiser in (state.generators, state.discriminators):
        for group in optimiser.param_groups:
            group["lr"] = rate


def _end_epoch(config: TrainConfig, state: TrainState, ranks: Ranks) -> None:
    if config.schedule.policy == "plateau":  # the one policy that has to look, and to wait for the device
        state.plateau.tell(float(ranks.mean(state.cycle_sum)) / max(1, state.cycle_count))
    state.cycle_sum, state.cycle_count = torch.zeros_like(state.cycle_sum), 0


def _read(losses: Losses, ranks: Ranks) -> dict[str, float]:
    names, values = zip(*losses.items(), strict=True)
    return dict(zip(names, ranks.mean(torch.stack(values)).tolist(), strict=True))  # one wait for the device, not eight


def _back_off(state: TrainState, run: Path) -> tuple[str, ...]:
    """Halve the learning rate while losses are no numbers (their updates were skipped), and give up in the end."""
    bad = int(state.bad_steps)
    if bad == 0:
        return ()
    if bad >= BORNE:
        good = find_checkpoint(run)
        raise TrainError(
            f"The losses have not been numbers for {bad} steps in a row, so training has stopped; "
            + (f"{good} is the last good checkpoint: continue from it" if good else "start again")
            + f" with a lower rate, for instance --set optimiser.learning_rate={state.back_off * 1e-4:.0e}, "
            "or with --set speed.precision=fp32."
        )
    state.back_off /= 2.0
    return (
        f"step {state.step}: the losses were not numbers for {bad} steps in a row; those updates were skipped and the "
        f"learning rate is halved from here on.",
    )


def _gradient_norms(state: TrainState) -> dict[str, float]:
    """Of the last update."""
    optimisers = {"generators": state.generators, "discriminators": state.discriminators}
    norms = {
        f"gradient_norm/{name}": torch.nn.utils.get_total_norm(
            [
                parameter.grad
                for group in optimiser.param_groups
                for parameter in group["params"]
                if parameter.grad is not None
            ]
        )
        for name, optimiser in optimisers.items()
    }
    scale = state.scaler.get_scale()
    return {name: float(norm) / scale for name, norm in norms.items()}


def _machine(device: torch.device) -> dict[str, float]:
    if device.type == "cuda":
        return {"memory_gib": torch.cuda.max_memory_allocated(device) / 2**30}
    return {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def _save_sample(run: Path, writer: SummaryWriter, pictures: Pictures, step: int) -> Path:
    """Two rows from the first pair of the batch: real A, as B, back to A; real B, as A, back to B."""
    rows = (
        pictures.real_a, pictures.fake_b, pictures.cycled_a,
        pictures.real_b, pictures.fake_a, pictures.cycled_b,
    )  # fmt: skip
    shown = [picture[0].float().expand(3, -1, -1) for picture in rows]
    height, width = (max(picture.shape[side] for picture in shown) for side in (1, 2))
    padded = [torch.nn.functional.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in shown]
    image = _to_uint8(make_grid(torch.stack(padded), nrow=3, normalize=True, value_range=(-1, 1)))
    writer.add_image("sample", image, step, dataformats="HWC")
    path = run / "samples" / f"step_{step:07d}.jpg"
    path.parent.mkdir(exist_ok=True)
    write_image(path, image)
    return path


def _to_uint8(grid: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(3, H, W) in 0..1 -> (H, W, 3) uint8; what is no number becomes black."""
    return (grid.nan_to_num(nan=0.0) * 255.0).round().byte().permute(1, 2, 0).cpu().numpy()
