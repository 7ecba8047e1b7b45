"""The page about a run: everything in it, nothing from outside, whatever the folder holds."""

import base64
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import CheckpointError, ConfigError, SinkError
from cyclegan_edge.images import decode_image, write_image
from cyclegan_edge.train.metrics_log import MetricsLog
from cyclegan_edge.train.report import write_report

VOID = {"meta", "img", "br"}
JPEG = "data:image/jpeg;base64,"


class Page(HTMLParser):
    """What a report consists of; fails where tags do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(self.text)
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

    def all(self, tag: str, attribute: str) -> list[str]:
        return [given[attribute] or "" for found, given in self.tags if found == tag and attribute in given]

    @property
    def charts(self) -> list[str]:
        return self.all("section", "aria-label")

    @property
    def pictures(self) -> list[Picture]:
        return [decode_image(base64.b64decode(s.removeprefix(JPEG)), "sample") for s in self.all("img", "src")]


def log(run: Path, values: dict[str, float], steps: range = range(1, 101)) -> None:
    metrics = MetricsLog(run, step=steps.start - 1)
    for step in steps:
        metrics.write(step=step, seconds=36.0 * step, values=values)
    metrics.close()


@pytest.fixture
def run(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A run of 100 steps with everything a page can show."""
    run = tmp_path / "horses & zebras"
    run.mkdir()
    (run / "settings.toml").write_text(
        'data = "/pictures/<horses>"\n[schedule]\nsteps = 500\n[objective]\ngan = "lsgan"\n'
    )
    names = ("gan_ab", "gan_ba", "cycle_a", "cycle_b", "discriminator_a", "discriminator_b")
    losses = {f"loss/{name}": 0.125 for name in names}
    log(run, {**losses, "gradient_norm/generators": 1.0, "pairs_per_second": 2.5, "evaluation/psnr_db": 17.25})
    for step in range(5, 101, 5):
        write_image(run / "samples" / f"step_{step:07d}.jpg", np.full((68, 102, 3), step, np.uint8))
    (run / "evaluation").mkdir()
    (run / "evaluation" / "old.json").write_text('{"quality": {"distance": {"fid": 99.5}}}')
    os.utime(run / "evaluation" / "old.json", (0, 0))
    new = {"quality": {"distance": {"fid": 71.25, "real": 120}}, "protocol": {"size": 256, "path": "<b>.jpg"}}
    (run / "evaluation" / "new.json").write_text(json.dumps(new))
    (run / "warnings.txt").write_text("Step 7: <script>alert(1)</script>\nStep 9: second\n")
    return run


def test_a_page_holds_everything_and_asks_for_nothing(run: Path) -> None:
    path = write_report(run)

    assert path == run / "report.html"
    page = Page(path)
    assert all(source.startswith(JPEG) for source in page.all("img", "src"))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert "@import" not in page.text
    for words in (
        *("horses & zebras", "of 500", "1:00:00", "2.5", "GAN", "Cycle", "17.25", "0.125", "Faint: as measured"),
        *(
            "FID",
            "71.25",
            "120",
            "Warnings: 2",
            "Step 9: second",
            "/pictures/<horses>",
            "objective.gan",
            "cyclegan-edge",
        ),
    ):
        assert words in page.words
    assert "99.5" not in page.words
    assert path.stat().st_size < 1 << 20


def test_text_from_outside_is_text_on_the_page(run: Path) -> None:
    log(run, {'loss/<img src="x">&"_a': 1.0, "<i>/$x$": 1.0}, range(101, 103))

    page = Page(write_report(run))

    for hostile in ("<script", "<horses>", "<b>.jpg", "<i>", "<I>", '<img src="x"'):
        assert hostile not in page.text
    assert "<script>alert(1)</script>" in page.words
    assert "<b>.jpg" in page.words
    assert "$x$" in page.words


def test_directions_share_a_chart_and_charts_come_in_a_fixed_order(run: Path) -> None:
    log(run, {"memory_gib": 6.0, "new/tag": 1.0}, range(101, 103))

    page = Page(write_report(run))

    assert page.charts == [
        "There and back: PSNR, dB", "GAN", "Discriminator", "Cycle", "Generators", "Speed, pairs/s",
        "Memory, GiB", "tag",
    ]  # fmt: skip
    assert page.words.count("A → B") == page.words.count("B → A") == 1
    assert page.words.count("Dotted: a draw, 0.25") == 2


def test_no_identifier_is_on_the_page_twice_and_every_colour_is_the_page_s(run: Path) -> None:
    page = Page(write_report(run))

    identifiers = [given["id"] for _, given in page.tags if "id" in given]
    assert len(set(identifiers)) == len(identifiers)
    drawing = page.text[page.text.index("<svg") : page.text.rindex("</svg>")]
    assert "#0000" not in drawing
    assert "var(--one)" in drawing


def test_values_that_are_not_shown_are_counted(run: Path) -> None:
    log(run, {"loss/identity_a": float("nan")}, range(101, 104))
    log(run, {"loss/identity_a": 0.5}, range(104, 304))
    log(run, {"loss/identity_a": 1e20}, range(304, 305))

    assert "Not finite or off the chart: 4" in Page(write_report(run)).words


@pytest.mark.parametrize("value", [float("nan"), 0.0, -2.0, 1e-30, 9e29, -9e29])
@pytest.mark.parametrize("count", [1, 3000])
def test_any_values_can_be_drawn(tmp_path: Path, value: float, count: int) -> None:
    log(tmp_path, {"loss/cycle_a": value}, range(7, 7 + count))

    page = Page(write_report(tmp_path))

    assert page.charts == ["Cycle"]
    assert len(page.text) < 100_000


def test_a_long_run_is_smoothed_and_its_spikes_stay_faintly(tmp_path: Path) -> None:
    metrics = MetricsLog(tmp_path, step=0)
    for step in range(1, 20_001):
        metrics.write(step=step, seconds=step, values={"loss/cycle_a": 1.0 + (step % 2) * 2.0})
    metrics.close()

    page = Page(write_report(tmp_path))

    assert "A 2 " in " ".join(page.words.split())
    paths = page.all("path", "d")
    faint = next(number for number, path in enumerate(paths) if path.count("L") == 800)  # 400 bins, up and down
    assert len(heights(paths[faint])) == 2  # 1 and 3
    assert len(heights(paths[faint + 1])) == 1  # 2
    assert len(page.text) < 200_000


def heights(path: str) -> set[str]:
    return {point.split()[1] for point in path.replace("M", "L").split("L") if point.strip()}


def test_the_newest_whole_sample_is_large_and_a_dozen_translations_are_spread_over_the_run(run: Path) -> None:
    (run / "samples" / "step_0000099.jpg").write_bytes(b"\xff\xd8\xff cut off")
    (run / "samples" / "step_0000101.jpg").write_bytes((run / "samples" / "step_0000005.jpg").read_bytes())
    sheet = np.zeros((1500, 1200, 3), np.uint8)
    sheet[:, 400:800] = 200  # the middle column: translated
    write_image(run / "samples" / "step_0000100.jpg", sheet)

    page = Page(write_report(run))

    large, *small = page.pictures
    assert large.shape == (1200, 960, 3)
    assert len(small) == 12
    assert small[0].shape == (68, 34, 3)
    assert small[-1].shape == (640, 171, 3)
    assert small[-1].min() > 190
    steps = page.all("img", "alt")
    assert (steps[0], steps[1], steps[-1]) == ("Samples at step 100", "Samples at step 5", "Samples at step 100")


def test_a_run_from_before_metrics_jsonl_has_a_page_that_names_tensorboard(run: Path) -> None:
    (run / "metrics.jsonl").unlink()

    page = Page(write_report(run))

    assert page.charts == []
    assert "tensorboard --logdir" in page.words
    assert "The same pictures every time" not in page.words
    assert len(page.pictures) == 13
    assert "71.25" in page.words
    assert "/pictures/<horses>" in page.words


def test_a_run_that_has_only_just_begun_has_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("size = 64\n")

    page = Page(write_report(tmp_path))

    assert "size" in page.words
    assert not {"svg", "img"} & {tag for tag, _ in page.tags}


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"settings\.toml.*name a folder in runs/"):
        write_report(tmp_path)


def test_settings_that_are_not_toml_are_refused(run: Path) -> None:
    (run / "settings.toml").write_text("size = = 3")

    with pytest.raises(ConfigError, match=r"settings\.toml is not valid TOML"):
        write_report(run)


def test_a_disk_that_refuses_leaves_the_old_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(run).write_text("old")

    def full_disk(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full_disk)

    with pytest.raises(SinkError, match="No space left on device"):
        write_report(run)
    assert (run / "report.html").read_text() == "old"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b'{"quality": 1}' + b" " * (1 << 20)])
def test_an_unreadable_evaluation_gives_way_to_the_one_before(run: Path, content: bytes) -> None:
    (run / "evaluation" / "new.json").write_bytes(content)

    assert "99.5" in Page(write_report(run)).words


def test_files_from_outside_cannot_make_a_page_large(run: Path) -> None:
    (run / "settings.toml").write_text("".join(f'k{n} = "{"x" * 500}"\n' for n in range(1000)))
    (run / "warnings.txt").write_text("".join(f"Step {n}: {'y' * 1000}\n" for n in range(900)))
    deep = json.dumps({"quality": "z" * 100_000, "a": {"b": {"c": {"d": {"e": {"f": {"g": ["z" * 1000] * 900}}}}}}})
    (run / "evaluation" / "new.json").write_text(deep)

    page = Page(write_report(run))

    assert "Warnings: 900, the last of them" in page.words
    assert "Step 899:" in page.words
    assert len(page.text) < 500_000


def test_drawing_leaves_matplotlib_as_it_was_and_loads_no_pyplot(run: Path) -> None:
    check = (
        "import sys, pathlib, matplotlib; from cyclegan_edge.train.report import write_report;"
        "before = matplotlib.rcParams.copy(); write_report(pathlib.Path(sys.argv[1]));"
        "assert matplotlib.rcParams.copy() == before; assert 'matplotlib.pyplot' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", check, str(run)], check=True)
