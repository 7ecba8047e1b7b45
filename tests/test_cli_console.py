"""Progress where there is no terminal: a line now and then, and one at the end."""

import io

import pytest
from rich.console import Console

from cyclegan_edge.cli import console
from cyclegan_edge.cli.console import counting, track


def test_a_line_is_printed_when_it_is_due(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    with counting("training") as show:
        for done in range(1, 9):
            now[0] += console.LINE_EVERY / 3
            show(done, 9, f"{done / 2} pairs/s")

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["training 3/9", "training 6/9", "training 8/9"]
    assert lines[0].endswith("1.5 pairs/s")


@pytest.mark.parametrize("terminal", [False, True])
def test_the_time_left_is_the_one_that_is_known_and_no_guess(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A continued run jumps to the step it stopped at, and its total changes when the clock ends it."""
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)
    monkeypatch.setattr(console, "console", screen)

    with counting("training") as show:
        show(67_000, 92_000, "", 361.0)
        show(67_001, 92_113, "", 360.0)

    assert ("0:06:00" if terminal else "6.0 min left") in screen.file.getvalue()  # type: ignore[attr-defined]


def test_nothing_to_count_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with counting("reading"):
        pass

    assert capsys.readouterr().out == ""


def test_tracked_items_come_in_order_and_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abc", "rendering", total=3)) == ["a", "b", "c"]

    assert capsys.readouterr().out.startswith("rendering 3/3")
