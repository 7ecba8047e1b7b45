"""What the keys and the page may change while the pipeline runs."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.contract import Batch
from cyclegan_edge.errors import BundleError, ConfigError
from cyclegan_edge.images import read_image
from cyclegan_edge.video.frames import BgrPicture, Frame, Rendered
from cyclegan_edge.video.overlay import LiveView
from cyclegan_edge.video.pipeline import Pipeline
from cyclegan_edge.video.recorder import Recorder
from cyclegan_edge.video.session import Session

RED: BgrPicture = np.full((16, 24, 3), (0, 0, 255), np.uint8)


class Nothing:
    """A source that ends at once."""

    name, size, fps, live, stamp = "nothing", (16, 24), 10.0, False, "never"
    length: int | None = 0

    def read(self) -> None:
        return None

    def close(self) -> None:
        pass


class Plain:
    """A translator that changes nothing."""

    name, device = "plain 1.0", "nowhere"

    def prepare(self, image: BgrPicture, *, bgr: bool = False) -> Batch:
        return image[np.newaxis]

    def run(self, batch: Batch) -> Batch:
        return batch

    def restore(self, batch: Batch, height: int, width: int, *, bgr: bool = False) -> BgrPicture:
        picture: BgrPicture = batch[0]
        return picture


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(Nothing())


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def session(pipeline: Pipeline, told: list[str], tmp_path: Path) -> Session:
    def load(folder: Path) -> Plain:
        if folder.name == "broken":
            raise BundleError("The manifest is damaged.")
        return Plain()

    return Session(
        pipeline,
        LiveView(),
        Recorder(tmp_path / "clip.mp4", fps=10, on=False),
        size=(16, 24),
        models={"summer": Path("summer"), "winter": Path("winter"), "broken": Path("broken")},
        model="summer",
        translator=Plain(),
        load=load,
        notify=told.append,
        folder=tmp_path,
    )


def eventually(reached: Callable[[], bool]) -> None:
    for _ in range(6000):
        if reached():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize("name", ["smooth", "skip", "frozen", "recording"])
def test_each_switch_can_be_turned_on_and_off(session: Session, name: str) -> None:
    assert session.state()[name] is False

    session.set(name, True)
    on = session.state()[name]
    session.set(name, False)

    assert on is True
    assert session.state()[name] is False


@pytest.mark.parametrize(("name", "value"), [("smooth", "yes"), ("smooth", 1), ("model", "nowhere"), ("size", True)])
def test_what_is_not_offered_is_refused(session: Session, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match="choose one that is offered"):
        session.set(name, value)


def test_another_model_takes_over_without_a_restart(session: Session, pipeline: Pipeline, told: list[str]) -> None:
    session.set("model", "winter")

    eventually(lambda: session.state()["model"] == "winter" and session.state()["loading"] is None)
    assert isinstance(pipeline.translator, Plain)
    assert told == ["winter has taken over."]


def test_a_model_that_cannot_be_opened_leaves_the_one_at_work(
    session: Session, pipeline: Pipeline, told: list[str]
) -> None:
    session.set("model", "broken")

    eventually(lambda: bool(told) and session.state()["loading"] is None)
    assert told == ["broken was not taken: The manifest is damaged."]
    assert session.state()["model"] == "summer"
    assert pipeline.translator is None


def test_a_snapshot_is_the_newest_translation(session: Session, pipeline: Pipeline) -> None:
    assert session.snapshot() is None
    pipeline.last = Rendered(Frame(RED, 0.0, 0), RED, RED)

    path = session.snapshot()

    assert path is not None
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]


def test_the_split_is_toggled(session: Session) -> None:
    session.toggle_split()
    once = session._view.layout
    session.toggle_split()

    assert (once, session._view.layout) == ("split", "translated")
