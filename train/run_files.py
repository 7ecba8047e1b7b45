"""What a run leaves on disk beside its checkpoints, whatever is trained in it.

runs/<name>/settings.toml             what decides the weights
runs/<name>/samples/step_N.jpg        the same pictures every time
runs/<name>/metrics.jsonl             losses, learning rate, speed, memory
runs/<name>/events.out.tfevents...    the same and the samples, for TensorBoard
runs/<name>/warnings.txt              what the checks for known failures said
runs/<name>/report.html               all of that as one page, written at the end
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import SinkError, first_line
from cyclegan_edge.files import write_file
from cyclegan_edge.images import write_image
from cyclegan_edge.settings import to_toml
from cyclegan_edge.train.metrics_log import MetricsLog
from cyclegan_edge.train.report import write_report


class RunFiles:
    """Writes the files of one run that has taken `step` steps.

    A disk that refuses what is only looked at costs a warning, which `refused` gives, and nothing else.
    """

    def __init__(self, run: Path, config: object, *, step: int) -> None:
        """`config` is a dataclass of settings. Raises SinkError when the disk refuses."""
        self._run = run
        self._refused: dict[str, str] = {}  # file -> sentence, until `refused` gave it; then ""
        self._reported = False
        write_file(run / "settings.toml", to_toml(config))
        try:
            self._tensorboard = SummaryWriter(str(run), purge_step=step + 1)
            self._metrics = MetricsLog(run, step=step)
        except OSError as error:
            raise SinkError(
                f"{run} cannot be written ({error.strerror}); check the folder and the free space."
            ) from error

    def write(self, values: Mapping[str, float], *, step: int, seconds: float) -> None:
        """Values by their tags, as they were after `step` steps and so many seconds in training."""
        with self._dispensable("TensorBoard's events"):
            for tag, value in values.items():
                self._tensorboard.add_scalar(tag, value, step)
        with self._dispensable("metrics.jsonl"):
            self._metrics.write(step=step, seconds=seconds, values=values)

    def write_sample(self, sheet: Picture, *, step: int) -> Path | None:
        """Where the sample sheet is, None where the disk refused it."""
        with self._dispensable("TensorBoard's events"):
            self._tensorboard.add_image("sample", sheet, step, dataformats="HWC")
        path = self._run / "samples" / f"step_{step:07d}.jpg"
        with self._dispensable("samples"):
            write_image(path, sheet)
            return path
        return None

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

    def close(self, *, step: int) -> None:
        """Finish the files, and write the report of a run that got anywhere and broke off."""
        with self._dispensable("TensorBoard's events"):
            self._tensorboard.close()
        with self._dispensable("metrics.jsonl"):
            self._metrics.close()
        if step and not self._reported:
            self.report()

    @contextlib.contextmanager
    def _dispensable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, SinkError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
            self._refused.setdefault(what, f"{self._run}: {what} cannot be written ({reason}); the run does without.")
