"""The training loop: settings and pictures in, checkpoints, samples and TensorBoard curves out.

runs/<name>/settings.toml             what decides the weights
runs/<name>/checkpoints/step_N.pt     the last two
runs/<name>/samples/step_N.jpg        per domain: real, translated, there and back
runs/<name>/events.out.tfevents...    losses, learning rate, pairs per second
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.files import atomic_file
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.settings import to_toml
from cyclegan_edge.train.checkpoint import load_checkpoint, save_checkpoint
from cyclegan_edge.train.config import TrainConfig, learning_rate_factor, total_steps
from cyclegan_edge.train.data import Crops, PictureFolders, Read, batches
from cyclegan_edge.train.step import Losses, Pictures, TrainState, new_state, train_step

_SMOOTHING = 20  # steps that the speed shown is averaged over


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run has come."""

    step: int  # steps taken
    total: int  # steps of the whole run
    pairs_per_second: float  # over the last steps, saving and sampling included
    losses: dict[str, float] | None  # unweighted, of this step; None between two logged steps
    sample: Path | None = None  # written at this step
    checkpoint: Path | None = None  # written at this step


def choose_device(config: TrainConfig) -> torch.device:
    """CUDA when there is one and the settings allow it. Raises ConfigError when CUDA is asked for and missing."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', but torch sees no CUDA device; check `cyclegan-edge doctor`, or use device=cpu."
        )
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def fit(
    config: TrainConfig,
    folders: PictureFolders,
    run: Path,
    *,
    read: Read = read_image,
    resume: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Train, yielding after every step, and leave a checkpoint at the end.

    `read` gives a picture of the folders; a `PictureCache.read` saves decoding it again.
    `resume` is the checkpoint to go on from. When `stop` answers True after a step, that step is saved and the run
    ends; continuing it later gives what an uninterrupted run would have given.
    """
    device = choose_device(config)
    state = load_checkpoint(resume, device)[1] if resume else new_state(config, device)
    steps_per_epoch = max(1, len(folders) // config.batch)
    total = total_steps(config, steps_per_epoch)
    run.mkdir(parents=True, exist_ok=True)
    with atomic_file(run / "settings.toml") as partial:
        partial.write_text(to_toml(config), encoding="utf-8")

    crops = Crops(load_size=config.load_size, size=config.size, seed=config.seed)
    pairs = batches(
        folders,
        crops,
        batch=config.batch,
        start=state.step,
        stop=total,
        workers=config.workers,
        read=read,
        pin=device.type == "cuda",
    )
    writer = SummaryWriter(str(run), purge_step=state.step + 1)
    times = [time.monotonic()]
    try:
        for real_a, real_b in pairs:
            factor = learning_rate_factor(config, state.step, steps_per_epoch)
            _set_learning_rate(state, config.learning_rate * factor)
            losses, pictures = train_step(
                state,
                real_a.to(device, non_blocking=True),
                real_b.to(device, non_blocking=True),
                cycle_weight=config.cycle_weight,
                identity_weight=config.identity_weight,
            )
            times = [*times[-_SMOOTHING:], time.monotonic()]
            pace = config.batch * (len(times) - 1) / (times[-1] - times[0])
            last = state.step == total or stop()
            logged = (
                _log(writer, losses, pace, config.learning_rate * factor, state.step)
                if last or _due(state, config.log_every)
                else None
            )
            yield Progress(
                step=state.step,
                total=total,
                pairs_per_second=pace,
                losses=logged,
                sample=_save_sample(run, writer, pictures, state.step)
                if last or _due(state, config.sample_every)
                else None,
                checkpoint=save_checkpoint(run, config, state) if last or _due(state, config.save_every) else None,
            )
            if last:
                break
    finally:
        pairs.close()
        writer.close()


def _due(state: TrainState, every: int) -> bool:
    return state.step % every == 0


def _set_learning_rate(state: TrainState, rate: float) -> None:
    for optimiser in (state.generators, state.discriminators):
        for group in optimiser.param_groups:
            group["lr"] = rate


def _log(writer: SummaryWriter, losses: Losses, pace: float, rate: float, step: int) -> dict[str, float]:
    names, values = zip(*losses.items(), strict=True)
    named = dict(zip(names, torch.stack(values).tolist(), strict=True))  # one wait for the device, not eight
    for name, value in named.items():
        writer.add_scalar(f"loss/{name}", value, step)
    writer.add_scalar("learning_rate", rate, step)
    writer.add_scalar("pairs_per_second", pace, step)
    return named


def _save_sample(run: Path, writer: SummaryWriter, pictures: Pictures, step: int) -> Path:
    """Two rows from the first pair of the batch: real A, as B, back to A; real B, as A, back to B."""
    rows = (
        pictures.real_a, pictures.fake_b, pictures.cycled_a,
        pictures.real_b, pictures.fake_a, pictures.cycled_b,
    )  # fmt: skip
    grid = make_grid(torch.stack([picture[0] for picture in rows]), nrow=3, normalize=True, value_range=(-1, 1))
    image = _to_uint8(grid)
    writer.add_image("sample", image, step, dataformats="HWC")
    path = run / "samples" / f"step_{step:07d}.jpg"
    path.parent.mkdir(exist_ok=True)
    write_image(path, image)
    return path


def _to_uint8(grid: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(3, H, W) in 0..1 -> (H, W, 3) uint8."""
    return (grid * 255.0).round().byte().permute(1, 2, 0).cpu().numpy()
