"""A live run, put together."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge import Translator
from cyclegan_edge import live as assembled
from cyclegan_edge.errors import BundleError, SinkError, SourceError
from cyclegan_edge.live import BROWSER, LiveConfig, PageConfig, open_live
from cyclegan_edge.video import sources
from cyclegan_edge.video.frames import Frame


class Camera:
    """A live source that counts how often it is read, and is closed once."""

    name, size, fps, live, stamp = "camera", (64, 96), 30.0, True, "it was read"
    length: int | None = None

    def __init__(self) -> None:
        self.read_count, self.closed = 0, 0

    def read(self) -> Frame:
        self.read_count += 1
        return Frame(np.zeros((64, 96, 3), np.uint8), 0.0, self.read_count)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Camera:
    camera = Camera()
    monkeypatch.setattr(sources, "open_source", lambda *_, **__: camera)
    return camera


@pytest.fixture
def load() -> Callable[[Path], Translator]:
    return lambda folder: Translator.load(folder, engine="onnxruntime")


def test_a_camera_is_drained_while_the_model_is_opened_and_closed_at_the_end(tiny_bundle: Path, camera: Camera) -> None:
    read_before: list[int] = []

    def slow(folder: Path) -> Translator:
        while camera.read_count < 100:
            pass
        read_before.append(camera.read_count)
        return Translator.load(folder, engine="onnxruntime")

    with open_live(LiveConfig(source="0"), tiny_bundle, slow, notify=lambda _: None) as live:
        list(live.run(frames=3))

    assert read_before[0] >= 100
    assert live.timings.summary().frames == 3
    assert camera.closed == 1


def test_a_model_that_cannot_be_opened_lets_go_of_the_camera(tmp_path: Path, camera: Camera) -> None:
    def broken(_: Path) -> Translator:
        raise BundleError("The manifest is damaged.")

    with (
        pytest.raises(BundleError, match="damaged"),
        open_live(LiveConfig(source="0"), tmp_path, broken, notify=lambda _: None),
    ):
        pass

    assert camera.closed == 1


def test_a_browser_as_the_source_needs_the_page(tiny_bundle: Path, load: Callable[[Path], Translator]) -> None:
    with (
        pytest.raises(SourceError, match="add --web"),
        open_live(LiveConfig(source=BROWSER), tiny_bundle, load, notify=lambda _: None),
    ):
        pass


def test_a_run_that_waits_for_a_browser_ends_when_it_is_told(
    tiny_bundle: Path, load: Callable[[Path], Translator]
) -> None:
    pytest.importorskip("websockets", reason="the extra [web] is not installed")
    config = LiveConfig(source=BROWSER, page=PageConfig(port=0))

    with open_live(config, tiny_bundle, load, notify=lambda _: None) as live:
        live.pipeline.stop()
        assert list(live.run()) == []

    assert not live.pipeline._capturing.is_alive()


def test_the_models_beside_the_one_at_work_can_be_switched_to(tiny_bundle: Path) -> None:
    other = tiny_bundle.parent / "winter"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    (tiny_bundle.parent / "notes").mkdir()

    assert list(assembled._models_beside(tiny_bundle)) == ["negative", "winter"]


def test_a_key_whose_action_fails_is_said_and_costs_nothing_else() -> None:
    told: list[str] = []

    def fails() -> None:
        raise SinkError("The disk is full.")

    assembled._noticing(fails, told.append)()

    assert told == ["The disk is full."]
