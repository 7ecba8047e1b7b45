"""The page about a run: everything in it, nothing from outside, whatever the folder holds."""

import base64
import json
import math
import os
import re
import struct
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from cyclegan_edge.errors import CheckpointError, ConfigError, SinkError
from cyclegan_edge.images import decode_image, write_image
from cyclegan_edge.train.report import write_report
from cyclegan_edge.train.report.chart import Line, draw, off_the_chart, short, ticks
from cyclegan_edge.train.report.curves import Curve, read_curves, smooth, thin, time_spent
from cyclegan_edge.train.report.samples import spread

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a report consists of; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.tags)


def log(run: Path, tags: dict[str, dict[int, float]], *, start: int | None = None) -> None:
    with SummaryWriter(str(run), purge_step=start) as writer:
        for tag, points in tags.items():
            for step, value in points.items():
                writer.add_scalar(tag, value, step)


def curve(*values: float) -> Curve:
    count = len(values)
    return Curve(np.arange(1, count + 1), np.array(values, np.float64), np.arange(count, dtype=np.float64))


@pytest.fixture
def run(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A run of 100 steps with everything a page can show."""
    run = tmp_path / "horses & zebras"
    run.mkdir()
    (run / "settings.toml").write_text('data = "/pictures/<horses>"\nsteps = 100\n\n[objective]\ngan = "lsgan"\n')
    losses = ("gan_ab", "gan_ba", "cycle_a", "cycle_b", "discriminator_a", "discriminator_b")
    log(run, {f"loss/{name}": {step: 1 / step for step in range(1, 101)} for name in losses})
    log(run, {"evaluation/psnr": {50: 14.0, 100: 17.25}, "gradient_norm/generators": {1: 1.0}, "memory_gib": {1: 6.2}})
    for step in range(5, 101, 5):
        write_image(run / "samples" / f"step_{step:07d}.jpg", rng.integers(0, 256, (68, 102, 3), dtype=np.uint8))
    (run / "evaluation").mkdir()
    (run / "evaluation" / "old.json").write_text('{"fid": 99.0}')
    os.utime(run / "evaluation" / "old.json", (0, 0))
    result = {"ab": {"fid": 71.25, "pictures": 120, "worst": [{"file": "a.jpg"}, {"file": "<b>.jpg"}]}, "ok": True}
    (run / "evaluation" / "new.json").write_text(json.dumps(result))
    (run / "warnings.txt").write_text("Step 7: <script>alert(1)</script>\nStep 9: second\n")
    return run


def test_a_page_holds_everything_and_asks_for_nothing(run: Path) -> None:
    path = write_report(run)

    assert path == run / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    sources = [value for _, given in page.tags for name, value in given.items() if name in ("src", "href", "srcset")]
    assert sources
    assert all(source and source.startswith("data:image/jpeg;base64,") for source in sources)
    assert page.count("script") == page.count("link") == 0
    assert "url(" not in page.words
    assert "@import" not in page.words
    for words in (
        *("horses & zebras", "of 100", "GAN", "Cycle", "Discriminator", "PSNR", "17.25", "Memory of the device"),
        *("new.json", "71.25", "120", "a.jpg", "Step 9: second", "/pictures/<horses>", "with torch", "cyclegan-edge 0"),
    ):
        assert words in page.words
    assert "99" not in page.words
    assert path.stat().st_size < 1 << 20


def test_text_from_outside_is_text_on_the_page(run: Path) -> None:
    log(run, {'loss/<img src="x">&"_a': {1: 1.0}, "<b>/x": {1: 1.0}})

    text = write_report(run).read_text(encoding="utf-8")

    for hostile in ("<script", "<horses>", "<b>.jpg", "<b>/", '<img src="x"'):
        assert hostile not in text
    page = Page(text)
    assert "<script>alert(1)</script>" in page.words
    assert "<b>.jpg" in page.words


def test_directions_share_a_chart_and_other_tags_have_their_own(run: Path) -> None:
    page = Page(write_report(run).read_text(encoding="utf-8"))

    labels = [given["aria-label"] or "" for tag, given in page.tags if tag == "svg" and "aria-label" in given]
    assert [label.split(":")[0] for label in labels] == [
        "PSNR", "GAN", "Discriminator", "Cycle", "Generators", "Memory of the device",
    ]  # fmt: skip
    assert re.fullmatch(r"GAN: A → B from 0\.\d+ to 0\.01\d*, B → A from .*", labels[1])


def test_tables_have_captions_and_header_cells(run: Path) -> None:
    page = Page(write_report(run).read_text(encoding="utf-8"))

    assert page.count("caption") == page.count("table") == 2
    assert all("scope" in given for tag, given in page.tags if tag == "th")
    assert all(given.get("alt") for tag, given in page.tags if tag == "img")


def test_a_dozen_samples_are_shown_and_the_newest_that_is_whole_is_large(run: Path) -> None:
    (run / "samples" / "step_0000200.jpg").write_bytes(b"\xff\xd8\xff cut off")
    big = np.random.default_rng(0).integers(0, 256, (1036, 1554, 3), dtype=np.uint8)
    write_image(run / "samples" / "step_0000100.jpg", big)

    page = Page(write_report(run).read_text(encoding="utf-8"))

    pictures = [given for tag, given in page.tags if tag == "img"]
    sizes = [decode_jpeg(given["src"] or "").shape[1] for given in pictures]
    assert len(pictures) == 1 + 12
    assert sizes[0] > 2 * sizes[-1] > 102
    assert "step 100:" in (pictures[0]["alt"] or "")
    assert sum(len(given["src"] or "") for given in pictures) < 4 << 20


def decode_jpeg(source: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return decode_image(base64.b64decode(source.removeprefix("data:image/jpeg;base64,")), "sample")


def test_the_timeline_is_spread_over_the_steps_and_keeps_both_ends() -> None:
    assert spread([5], 12) == [5]
    assert spread([10, 20, 30], 12) == [10, 20, 30]
    assert spread(list(range(0, 1001, 10)), 3) == [0, 500, 1000]
    assert spread([1, 2, 3, 4, 1000], 3)[-1] == 1000


def test_a_run_that_has_only_just_begun_has_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("size = 64\n")

    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))

    assert "size" in page.words
    assert page.count("svg") == page.count("img") == 0


def test_what_is_no_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no run, expected settings\.toml"):
        write_report(tmp_path)


def test_settings_that_are_no_toml_are_refused_in_one_sentence(run: Path) -> None:
    (run / "settings.toml").write_text("size = = 3")

    with pytest.raises(ConfigError, match="is not valid TOML"):
        write_report(run)


def test_a_disk_that_refuses_leaves_the_old_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(run).write_text("old")

    def full_disk(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", full_disk)

    with pytest.raises(SinkError, match=r"cannot be written \(No space left on device\)"):
        write_report(run)
    assert (run / "report.html").read_text() == "old"


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b" " * (1 << 21)])
def test_an_unreadable_evaluation_gives_way_to_the_one_before(run: Path, content: bytes) -> None:
    (run / "evaluation" / "new.json").write_bytes(content)

    assert "99" in Page(write_report(run).read_text(encoding="utf-8")).words


def test_points_after_the_place_of_continuation_are_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(tmp_path, {"loss/x": dict.fromkeys(range(1, 11), 1.0), "gone": {9: 1.0}})
    log(tmp_path, {"loss/x": {6: 2.0, 7: 2.0}}, start=6)
    log(tmp_path, {"loss/x": {8: 3.0}}, start=8)

    curves = read_curves(tmp_path)

    assert curves["loss/x"].steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert curves["loss/x"].values.tolist() == [1.0] * 5 + [2.0, 2.0, 3.0]
    assert "gone" not in curves
    assert capsys.readouterr() == ("", "")


def test_a_damaged_file_costs_only_what_follows_the_damage(tmp_path: Path) -> None:
    log(tmp_path, {"loss/x": {1: 1.0, 2: 2.0}})
    (damaged,) = tmp_path.iterdir()
    whole = damaged.read_bytes()
    first = damaged.rename(tmp_path / "events.out.tfevents.1.a")
    first.write_bytes(whole[:-10])
    (tmp_path / "events.out.tfevents.2.b").write_bytes(b"no events at all, but long enough to hold a header")
    (tmp_path / "events.out.tfevents.3.c").write_bytes(struct.pack("<QI", 5, 0) + b"wrong sum")
    log(tmp_path, {"loss/x": {3: 3.0}})

    assert read_curves(tmp_path)["loss/x"].values.tolist() == [1.0, 3.0]


def test_pictures_in_the_event_file_are_not_read(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(3):  # 300 KB each of what does not compress
            picture = np.random.default_rng(step).integers(0, 256, (300, 340, 3), dtype=np.uint8)
            writer.add_image("sample", picture, step, dataformats="HWC")
            writer.add_scalar("loss/x", step, step)

    curves = read_curves(tmp_path)

    assert list(curves) == ["loss/x"]
    assert curves["loss/x"].values.tolist() == [0.0, 1.0, 2.0]


def test_thinning_keeps_the_ends_every_spike_and_every_gap(rng: np.random.Generator) -> None:
    values = rng.normal(0, 0.1, 20_000)
    values[[777, 13_000]] = 50.0, -50.0
    values[9_000] = math.nan

    kept = thin(values, 500)

    assert len(kept) <= 510
    assert {0, 777, 9_000, 13_000, 19_999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()


def test_smoothing_is_a_mean_that_passes_over_what_is_not_finite() -> None:
    values = np.tile([1.0, 3.0], 500)
    values[500:503] = math.nan, math.inf, -math.inf

    smoothed = smooth(values)

    assert np.isnan(smoothed[500:503]).all()
    rest = np.delete(smoothed, [500, 501, 502])
    np.testing.assert_allclose(rest, 2.0, atol=0.1)
    np.testing.assert_array_equal(smooth(np.array([1.0, 5.0])), [1.0, 5.0])


def test_time_in_training_leaves_out_the_night_between_two_sittings() -> None:
    times = np.array([*range(0, 100, 10), *range(50_000, 50_100, 10)], np.float64)

    assert time_spent(Curve(np.arange(20), np.zeros(20), times)) == 2 * 90 + 100


@pytest.mark.parametrize(
    "values",
    [
        [1.0, math.nan, 2.0],
        [math.nan],
        [math.inf, -math.inf],
        [0.0],
        [3e38, -3e38, 0.0],
        [1e-30, 2e-30],
        [5.0, 5.0, 5.0],
        [1.0] * 500 + [1e30],
        [-2.0, -1.0],
    ],
    ids=str,
)
def test_any_values_give_sound_svg(values: list[float]) -> None:
    drawn = draw("<any>", [Line("A & B", curve(*values)), Line("", curve(1.0))])

    svg = ElementTree.fromstring(drawn)
    for path in svg.iter("path"):
        assert re.fullmatch(r"(?:[MLHhv ]|-?\d+(?:\.\d+)?|\.01)*", path.attrib["d"]), path.attrib["d"]
    assert svg.attrib["aria-label"].startswith("<any>: A & B ")


def test_a_value_that_is_not_finite_leaves_a_gap() -> None:
    svg = ElementTree.fromstring(draw("x", [Line("", curve(1.0, 2.0, math.nan, 3.0, 4.0, math.inf, 5.0))]))

    (raw,) = (path.attrib["d"] for path in svg.iter("path") if "raw" in path.attrib["class"])
    assert [piece.count(" ") for piece in raw.split("M")[1:]] == [2, 2, 1]  # two points, two points, and a dot


def test_an_exact_curve_is_drawn_as_it_is() -> None:
    values = [1.0] * 50 + [0.0] * 50

    exact, noisy = (ElementTree.fromstring(draw("x", [Line("", curve(*values), noisy=n)])) for n in (False, True))

    assert len({path.attrib["d"] for path in exact.iter("path") if "line-1" in path.attrib["class"]}) == 1
    assert len({path.attrib["d"] for path in noisy.iter("path") if "line-1" in path.attrib["class"]}) == 2


def test_what_the_chart_does_not_show_is_said() -> None:
    line = Line("A", curve(*np.linspace(1.0, 2.0, 500), 900.0, math.nan))

    assert list(off_the_chart([line])) == [
        "A: 1 of 502 values are not finite, from step 502 on.",
        "A: 1 of 502 values lie outside, up to 900 at step 501.",
    ]


def test_numbers_are_short() -> None:
    numbers = [0.0, 0.123456, 12.345, 1234.5, 2e-4, 6.5789e-6, 3.4e38, -0.5, math.nan]

    assert [short(number) for number in numbers] == [
        "0", "0.1235", "12.35", "1,234", "2e-4", "6.58e-6", "3.4e38", "-0.5", "nan",
    ]  # fmt: skip


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0.0, 266_800.0) == [0.0, 100_000.0, 200_000.0]
    assert ticks(-0.3, 0.3) == pytest.approx([-0.2, 0.0, 0.2])
