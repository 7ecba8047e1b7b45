"""Progress where there is no terminal: a line now and then, and one at the end."""

import pytest

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


def test_nothing_to_count_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with counting("reading"):
        pass

    assert capsys.readouterr().out == ""


def test_tracked_items_come_in_order_and_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abc", "rendering", total=3)) == ["a", "b", "c"]

    assert capsys.readouterr().out.startswith("rendering 3/3")
