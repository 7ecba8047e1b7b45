"""What every command prints with: one console, one kind of warning, one kind of progress."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_EVERY = 30.0  # seconds between the lines of progress in a file or a pipe
SHOWN = 10  # sentences of a kind
T = TypeVar("T")

console = Console(highlight=False, soft_wrap=True)


def warn(sentence: str) -> None:
    """Print a warning."""
    console.print(f"[yellow]warning:[/yellow] {escape(sentence)}")


def say(line: str) -> None:
    """Print a line of what a command goes through, indented."""
    console.print(f"  {line}", markup=False)


def print_some(sentences: Sequence[str], mark: str) -> None:
    """The first sentences of a kind, each behind `mark`, and how many more there are."""
    for sentence in sentences[:SHOWN]:
        console.print(f"{mark} {escape(sentence)}")
    if len(sentences) > SHOWN:
        console.print(f"{mark} and {len(sentences) - SHOWN} more.")


def progress_bar() -> Progress:
    """A bar with count, time left and a `note` of what is measured; lines now and then where there is no terminal."""
    if not console.is_terminal:
        return _Lines()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        _TimeLeft(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )


def track(items: Iterable[T], description: str, *, total: int) -> Iterator[T]:
    """`items` with a progress bar."""
    with counting(description) as show:
        for done, item in enumerate(items, start=1):
            yield item
            show(done, total)


@contextlib.contextmanager
def counting(description: str) -> Iterator[Callable[..., None]]:
    """A function of how many are done, how many there are, and more; a progress bar shows them from its first call.

    note    what was measured
    left    seconds; without it they are estimated
    """
    with progress_bar() as bar:

        def show(done: int, total: int, note: str = "", left: float | None = None) -> None:
            if not bar.tasks:
                bar.add_task(description, note="", total=total)
            bar.update(bar.tasks[0].id, completed=done, total=total, note=note, left=left)

        yield show


class _TimeLeft(TimeRemainingColumn):
    """The seconds in the field `left` where there are any, else rich's own estimate."""

    def render(self, task: Task) -> Text:
        left = task.fields.get("left")
        return super().render(task) if left is None else Text(str(timedelta(seconds=round(left))), "progress.remaining")


class _Lines(Progress):
    """A line every LINE_EVERY seconds and one at the end, where nothing can be drawn over."""

    def __init__(self) -> None:
        super().__init__(console=console)
        self._printed = time.monotonic()

    def start(self) -> None:
        """Nothing is drawn."""

    def stop(self) -> None:
        for task in self.tasks:
            self.console.print(_line(task), markup=False)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        if time.monotonic() >= self._printed + LINE_EVERY:
            self._printed = time.monotonic()
            self.console.print(_line(next(task for task in self.tasks if task.id == task_id)), markup=False)


def _line(task: Task) -> str:
    """ "training 1200/5000, 4.1 min, 13.0 min left, 6.02 pairs/s"."""
    total = "" if task.total is None else f"/{task.total:.0f}"
    known = task.fields.get("left")
    left = task.time_remaining if known is None else known
    parts = (
        f"{task.description} {task.completed:.0f}{total}",
        _duration(task.elapsed or 0.0),
        f"{_duration(left)} left" if left else "",
        str(task.fields.get("note", "")),
    )
    return ", ".join(filter(None, parts))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
