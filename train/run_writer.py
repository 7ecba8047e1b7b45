"""What a run leaves on disk while it goes on; the first of several processes writes it.

runs/<name>/settings.toml             what decides the weights
runs/<name>/checkpoints/step_N.pt     the last ones, and best.pt when the run is evaluated
runs/<name>/samples/step_N.jpg        the same pictures every time: real, translated, translated back
runs/<name>/metrics.jsonl             losses, gradients, learning rate, pairs per second, share of waiting, memory
runs/<name>/events.out.tfevents...    the same and the samples, for TensorBoard
runs/<name>/warnings.txt              what the checks for known failures said
runs/<name>/report.html               all of that as one page, written at the end
"""

import contextlib
import resource
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from cyclegan_edge.errors import ConfigError, SinkError, first_line
from cyclegan_edge.files import write_file
from cyclegan_edge.images import write_image
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.settings import to_toml
from cyclegan_edge.train.checkpoint import save_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.pairs import Pairs
from cyclegan_edge.train.diagnostics import Diagnostics
from cyclegan_edge.train.metrics_log import MetricsLog
from cyclegan_edge.train.report import write_report
from cyclegan_edge.train.samples import SampleSheet
from cyclegan_edge.train.state import TrainState
from cyclegan_edge.train.step import Pictures
from cyclegan_edge.train.validation import Validator


class RunWriter:
    """Writes what is due after a step of `state`; nothing here changes the training.

    A disk that refuses what is only looked at costs a warning, which `refused` gives, and no checkpoint.
    """

    def __init__(self, run: Path, config: TrainConfig, state: TrainState, pairs: Pairs, device: torch.device) -> None:
        """Raises what `Validator` raises, before anything is written, ConfigError where wandb is asked for and missing,
        and SinkError when the disk refuses."""
        self._run, self._config, self._state = run, config, state
        self._validator = Validator(config, device) if config.output.evaluate_every else None
        self._sheet = SampleSheet(config, pairs)
        self._diagnostics = Diagnostics(config.objective.gan, state.diagnostics)
        self._refused: dict[str, str] = {}  # file -> sentence, until `refused` gave it; then ""
        self._reported = False
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
        write_file(run / "settings.toml", to_toml(config))
        try:
            self._tensorboard = SummaryWriter(str(run), purge_step=state.step + 1)
            self._metrics = MetricsLog(run, step=state.step)
        except OSError as error:
            raise SinkError(
                f"{run} cannot be written ({error.strerror}); check the folder and the free space."
            ) from error

    def log(self, losses: Mapping[str, float], scalars: Mapping[str, float]) -> list[str]:
        """Curves; warnings about the losses."""
        self._write({**{f"loss/{name}": value for name, value in losses.items()}, **scalars})
        return self._diagnostics.check_losses(self._state.step, losses)

    def sample(self, batch: Pictures) -> tuple[Path | None, list[str]]:
        """The sample sheet as it is now, None where the disk refused it; warnings about the pictures of this step."""
        step = self._state.step
        sheet = self._sheet.draw(self._state)
        with self._dispensable("TensorBoard's events"):
            self._tensorboard.add_image("sample", sheet, step, dataformats="HWC")
        path: Path | None = None
        with self._dispensable("samples"):
            wanted = self._run / "samples" / f"step_{step:07d}.jpg"
            write_image(wanted, sheet)
            path = wanted
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

    def warn(self, warnings: Sequence[str]) -> None:
        """Keep what was said."""
        if warnings:
            with (
                self._dispensable("warnings.txt"),
                (self._run / "warnings.txt").open("a", encoding="utf-8") as file,
            ):
                file.writelines(f"{warning}\n" for warning in warnings)

    def report(self) -> None:
        """The run as one page."""
        self._reported = True
        with self._dispensable("report.html"):
            write_report(self._run)

    def refused(self) -> list[str]:
        """What the disk refused since the last call, a sentence for each kind of file, once a run."""
        sentences = [sentence for sentence in self._refused.values() if sentence]
        self._refused = dict.fromkeys(self._refused, "")
        return sentences

    def close(self) -> None:
        """Finish the files, and write the report of a run that got anywhere and broke off."""
        with self._dispensable("TensorBoard's events"):
            self._tensorboard.close()
        with self._dispensable("metrics.jsonl"):
            self._metrics.close()
        if self._state.step and not self._reported:
            self.report()

    @contextlib.contextmanager
    def _dispensable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, SinkError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
            self._refused.setdefault(what, f"{self._run}: {what} cannot be written ({reason}); the run does without.")

    def _write(self, values: Mapping[str, float]) -> None:
        with self._dispensable("TensorBoard's events"):
            for tag, value in values.items():
                self._tensorboard.add_scalar(tag, value, self._state.step)
        with self._dispensable("metrics.jsonl"):
            self._metrics.write(step=self._state.step, seconds=self._state.seconds, values=values)


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
