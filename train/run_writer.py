"""What a CycleGAN run leaves on disk while it goes on; the first of several processes writes it.

runs/<name>/checkpoints/step_N.pt     the last ones, and best.pt when the run is evaluated
runs/<name>/samples/step_N.jpg        real, translated, translated back
runs/<name>/...                       see run_files.py
"""

import resource
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.train.checkpoint import save_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.pairs import Pairs
from cyclegan_edge.train.diagnostics import Diagnostics
from cyclegan_edge.train.run_files import RunFiles
from cyclegan_edge.train.samples import SampleSheet
from cyclegan_edge.train.state import TrainState
from cyclegan_edge.train.step import Pictures
from cyclegan_edge.train.validation import Validator


class RunWriter:
    """Writes what is due after a step of `state`; nothing here changes the training."""

    def __init__(self, run: Path, config: TrainConfig, state: TrainState, pairs: Pairs, device: torch.device) -> None:
        """Raises what `Validator` raises, before anything is written, ConfigError where wandb is asked for and missing,
        and SinkError when the disk refuses."""
        self._run, self._config, self._state = run, config, state
        self._validator = Validator(config, device) if config.output.evaluate_every else None
        self._sheet = SampleSheet(config, pairs)
        self._diagnostics = Diagnostics(config.objective.gan, state.diagnostics)
        if config.output.wandb:
            try:
                import wandb
            except ModuleNotFoundError as error:
                raise ConfigError(
                    "output.wandb is true, but wandb is not installed; `pip install wandb`, or set output.wandb=false."
                ) from error
            run.mkdir(parents=True, exist_ok=True)
            settings = to_mapping(config)
            wandb.init(project="cyclegan-edge", name=run.name, dir=run, config=settings, sync_tensorboard=True)
        self.files = RunFiles(run, config, step=state.step)

    def log(self, losses: Mapping[str, float], scalars: Mapping[str, float]) -> list[str]:
        """Curves; warnings about the losses."""
        self._write({**{f"loss/{name}": value for name, value in losses.items()}, **scalars})
        return self._diagnostics.check_losses(self._state.step, losses)

    def sample(self, batch: Pictures) -> tuple[Path | None, list[str]]:
        """The sample sheet as it is now, None where the disk refused it; warnings about the pictures of this step."""
        step = self._state.step
        path = self.files.write_sample(self._sheet.draw(self._state), step=step)
        warnings = self._diagnostics.check_pictures(step, "ab", batch.real_a, batch.fake_b)
        return path, warnings + self._diagnostics.check_pictures(step, "ba", batch.real_b, batch.fake_a)

    def is_best(self) -> bool:
        """Measure the generators on the test pictures: whether they are the best of the run so far."""
        if self._validator is None:
            return False
        figures, best = self._validator(self._state)
        self._write({f"evaluation/{name}": value for name, value in figures.items()})
        return best

    def save(self, *, best: bool = False) -> Path:
        """A checkpoint. Raises CheckpointError on a full disk."""
        self._state.diagnostics = self._diagnostics.state_dict()
        return save_checkpoint(self._run, self._config, self._state, best=best)

    def close(self) -> None:
        """Finish the files, and write the report of a run that got anywhere and broke off."""
        self.files.close(step=self._state.step)

    def _write(self, values: Mapping[str, float]) -> None:
        self.files.write(values, step=self._state.step, seconds=self._state.seconds)


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
