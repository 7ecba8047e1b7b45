"""What a run leaves on disk while it goes on; the first of several processes writes it.

runs/<name>/settings.toml             what decides the weights
runs/<name>/checkpoints/step_N.pt     the last ones, and best.pt when the run is evaluated
runs/<name>/samples/step_N.jpg        per domain: real, translated, there and back
runs/<name>/events.out.tfevents...    losses, gradients, learning rate, pairs per second, share of waiting, memory
runs/<name>/warnings.txt              what the watch for known failures said
runs/<name>/report.html               all of that as one page, written at the end
"""

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from cyclegan_edge.files import atomic_file
from cyclegan_edge.images import write_image
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.settings import to_toml
from cyclegan_edge.train.checkpoint import save_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.diagnostics import Diagnostics
from cyclegan_edge.train.report import write_report
from cyclegan_edge.train.state import TrainState
from cyclegan_edge.train.step import Pictures
from cyclegan_edge.train.validation import Validator


class Outputs:
    """Writes what is due after a step of `state`; nothing here changes the training."""

    def __init__(self, run: Path, config: TrainConfig, state: TrainState, device: torch.device) -> None:
        """Raises what `Validator` raises, before anything is written."""
        self._run, self._config, self._state = run, config, state
        self._validator = Validator(config, device) if config.output.evaluate_every else None
        self._watch = Diagnostics(config.objective.gan)
        if state.watch is not None:
            self._watch.load_state_dict(state.watch)
        run.mkdir(parents=True, exist_ok=True)
        with atomic_file(run / "settings.toml") as partial:
            partial.write_text(to_toml(config), encoding="utf-8")
        if config.output.wandb:
            import wandb

            settings = to_mapping(config)
            wandb.init(project="cyclegan-edge", name=run.name, dir=run, config=settings, sync_tensorboard=True)
        self._writer = SummaryWriter(str(run), purge_step=state.step + 1)

    def log(self, losses: Mapping[str, float], scalars: Mapping[str, float]) -> list[str]:
        """Curves; warnings about the losses."""
        self._curves({**{f"loss/{name}": value for name, value in losses.items()}, **scalars})
        return self._watch.losses(self._state.step, losses)

    def sample(self, pictures: Pictures) -> tuple[Path, list[str]]:
        """Two rows from the first pair of the batch: real A, as B, back to A; real B, as A, back to B."""
        rows = (
            pictures.real_a, pictures.fake_b, pictures.cycled_a,
            pictures.real_b, pictures.fake_a, pictures.cycled_b,
        )  # fmt: skip
        step = self._state.step
        image = _grid([picture[0].float().expand(3, -1, -1) for picture in rows])
        self._writer.add_image("sample", image, step, dataformats="HWC")
        path = self._run / "samples" / f"step_{step:07d}.jpg"
        path.parent.mkdir(exist_ok=True)
        write_image(path, image)
        warnings = self._watch.pictures(step, "ab", pictures.real_a, pictures.fake_b)
        return path, warnings + self._watch.pictures(step, "ba", pictures.real_b, pictures.fake_a)

    def is_best(self) -> bool:
        """Measure the generators on the test pictures: whether they are the best of the run so far."""
        if self._validator is None:
            return False
        figures, best = self._validator(self._state)
        self._curves({f"evaluation/{name}": value for name, value in figures.items()})
        return best

    def save(self, *, best: bool = False) -> Path:
        """A checkpoint. Raises CheckpointError on a full disk."""
        self._state.watch = self._watch.state_dict()
        return save_checkpoint(self._run, self._config, self._state, best=best)

    def note(self, warnings: Sequence[str]) -> None:
        """Keep what was said."""
        if warnings:
            with (self._run / "warnings.txt").open("a", encoding="utf-8") as file:
                file.writelines(f"{warning}\n" for warning in warnings)

    def close(self) -> None:
        """Flush the curves, and write the report of a run that got anywhere."""
        self._writer.close()
        if self._state.step:
            write_report(self._run)

    def _curves(self, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, self._state.step)


def gradient_norms(state: TrainState) -> dict[str, float]:
    """Of the last update."""
    optimisers = {"generators": state.generators, "discriminators": state.discriminators}
    scale = state.scaler.get_scale()
    return {
        f"gradient_norm/{name}": float(torch.nn.utils.get_total_norm(_gradients(optimiser))) / scale
        for name, optimiser in optimisers.items()
    }


def memory(device: torch.device) -> dict[str, float]:
    """The most that was taken so far, of the GPU or of the machine."""
    if device.type == "cuda":
        return {"memory_gib": torch.cuda.max_memory_allocated(device) / 2**30}
    return {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def _gradients(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    parameters = (parameter for group in optimiser.param_groups for parameter in group["params"])
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _grid(pictures: Sequence[Tensor]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Six (3, h, w) in -1..1 -> (H, W, 3) uint8 in rows of three; what is no number becomes black."""
    height, width = (max(picture.shape[side] for picture in pictures) for side in (1, 2))
    padded = [functional.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in pictures]
    grid = make_grid(torch.stack(padded), nrow=3, normalize=True, value_range=(-1, 1))
    shown = (grid.nan_to_num(nan=0.0) * 255.0).round().byte().permute(1, 2, 0)
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = shown.cpu().numpy()
    return image
