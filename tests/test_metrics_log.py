"""metrics.jsonl: appended line by line, sound after a kill, right after a continuation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.train.metrics_log import MetricsLog, read_curves


def write(run: Path, points: dict[int, float], *, after: int = 0) -> None:
    log = MetricsLog(run, step=after)
    for step, value in points.items():
        log.write(step=step, seconds=step / 10, values={"loss/x": value})
    log.close()


def test_each_line_is_one_json_object_by_the_names_of_tensorboard(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, step=0)
    log.write(step=20, seconds=1.5, values={"loss/gan_ab": 0.25, "loss/cycle_a": math.inf})

    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()  # while it goes on

    assert json.loads(line) == {"step": 20, "seconds": 1.5, "loss/gan_ab": 0.25, "loss/cycle_a": None}
    log.close()


def test_curves_come_back_with_gaps_where_values_were_not_finite(tmp_path: Path) -> None:
    write(tmp_path, {1: 1.0, 2: math.nan, 3: -math.inf, 4: 0.1 + 0.2})

    curves = read_curves(tmp_path)

    assert list(curves) == ["seconds", "loss/x"]
    assert curves["loss/x"].steps.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(curves["loss/x"].values, [1.0, math.nan, math.nan, 0.1 + 0.2])
    assert curves["seconds"].values.tolist() == [0.1, 0.2, 0.3, 0.4]


def test_lines_past_the_step_that_is_continued_from_are_gone(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(range(1, 11), 1.0))
    write(tmp_path, {8: 2.0}, after=7)
    write(tmp_path, {6: 3.0}, after=4)

    curve = read_curves(tmp_path)["loss/x"]

    assert curve.steps.tolist() == [1, 2, 3, 4, 6]
    assert curve.values.tolist() == [1.0, 1.0, 1.0, 1.0, 3.0]


def test_a_new_run_in_an_old_folder_starts_with_no_lines(tmp_path: Path) -> None:
    write(tmp_path, {5: 1.0})
    write(tmp_path, {}, after=0)

    assert read_curves(tmp_path) == {}


@pytest.mark.parametrize("cut", [1, 2, 10, 40])
def test_a_line_that_a_kill_tore_is_passed_over_and_the_next_run_appends_whole_ones(tmp_path: Path, cut: int) -> None:
    write(tmp_path, {1: 1.0, 2: 2.0})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    whole = 2 if cut == 1 else 1  # without its newline alone, a line is whole

    assert read_curves(tmp_path)["loss/x"].steps.tolist() == list(range(1, whole + 1))
    write(tmp_path, {3: 3.0}, after=2)

    assert read_curves(tmp_path)["loss/x"].steps.tolist() == [*range(1, whole + 1), 3]


@pytest.mark.parametrize(
    "line",
    [
        b"[1, 2]", b'{"step": -1, "loss/x": 5}', b'{"step": true, "loss/x": 5}', b'{"step": 1e3, "loss/x": 5}',
        b'{"loss/x": 5}', b'{"step": 99999999999999999999, "loss/x": 5}', b"\xff\xfe", b"[" * 100_000,
        b'{"step": 3, "loss/x": ' + b"9" * 5000 + b"}", b'{"step": 3, "' + b"x" * (1 << 17) + b'": 1}',
    ],
    ids=lambda line: line[:30].decode(errors="replace"),
)  # fmt: skip
def test_what_is_no_entry_costs_only_its_line(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, {1: 1.0})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(line + b'\n{"step": 4, "loss/x": 2.0}\n')

    assert read_curves(tmp_path)["loss/x"].values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", ["1e40", "1e999", '"text"', "null", "[1]", "NaN"])
def test_a_value_that_no_chart_can_show_is_a_gap(tmp_path: Path, value: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss/x": {value}}}\n')

    assert np.isnan(read_curves(tmp_path)["loss/x"].values).all()


def test_a_file_of_too_many_tags_is_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, **{f"x{n}": n for n in range(1000)}}))

    assert len(read_curves(tmp_path)) == 100
