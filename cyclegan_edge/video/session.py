"""What a person may change while the pipeline runs: the keys of the window and the controls of the page come here."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import ConfigError, CycleGanEdgeError
from cyclegan_edge.files import write_file
from cyclegan_edge.video.frames import FrameTranslator, Notify
from cyclegan_edge.video.overlay import LiveView
from cyclegan_edge.video.pipeline import Pipeline, warm_up
from cyclegan_edge.video.recorder import Recorder


class NamedTranslator(FrameTranslator, Protocol):
    """A translator that says what runs it."""

    name: str
    device: str


class Session:
    """One run and its controls. Every method may be called from any thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        view: LiveView,
        recorder: Recorder,
        *,
        size: Size,
        models: Mapping[str, Path],
        model: str,
        translator: NamedTranslator,
        load: Callable[[Path], NamedTranslator],
        notify: Notify,
        folder: Path = Path(),
    ) -> None:
        """`models` are those that can be switched to, `model` the one at work; snapshots go into `folder`."""
        self._translator = translator
        self._pipeline, self._view, self._recorder = pipeline, view, recorder
        self._size, self._models, self._model, self._load = size, dict(models), model, load
        self._notify, self._folder = notify, folder
        self._switching = threading.Lock()
        self._loading: str | None = None

    def state(self) -> dict[str, Any]:
        """What the controls show."""
        return {
            "model": self._model,
            "engine": self._translator.name,
            "device": self._translator.device,
            "models": list(self._models),
            "loading": self._loading,
            "recording": self._recorder.on,
            "frozen": self._pipeline.frozen,
            "smooth": self._pipeline.stabilizer.smooth,
            "skip": self._pipeline.skipper.enabled,
            "trouble": self._pipeline.trouble(),
        }

    def set(self, name: str, value: object) -> None:
        """Change one setting of `state`. Raises ConfigError for one that is not there or of another type."""
        if name == "model" and isinstance(value, str) and value in self._models:
            threading.Thread(target=self._switch, args=(value,), name="switch", daemon=True).start()
            return
        if not isinstance(value, bool):
            raise ConfigError(f"{name} cannot be set to {str(value)[:40]!r}; choose one that is offered.")
        match name:
            case "recording":
                self._recorder.start() if value else self._recorder.stop()
            case "frozen":
                self._pipeline.frozen = value
            case "smooth":
                self._pipeline.stabilizer.smooth = value
            case "skip":
                self._pipeline.skipper.enabled = value
            case _:
                raise ConfigError(f"There is no setting {name[:40]!r} here; choose one that is offered.")

    def toggle_split(self) -> None:
        self._view.layout = "translated" if self._view.layout == "split" else "split"

    def png(self) -> bytes | None:
        """The newest translation as PNG; None before the first."""
        last = self._pipeline.last
        return None if last is None else cv2.imencode(".png", last.translated)[1].tobytes()

    def snapshot(self) -> Path | None:
        """Write the newest translation to a file of its own and say where. Raises SinkError."""
        png = self.png()
        if png is None:
            return None
        path = self._folder / f"snapshot-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 1_000_000 % 1000:03}.png"
        write_file(path, png)
        self._notify(f"Snapshot {path}.")
        return path

    def _switch(self, model: str) -> None:
        """Open another model beside the one at work, and let it take over once it is warm."""
        with self._switching:
            self._loading = model
            try:
                translator = self._load(self._models[model])
                warm_up(translator, self._size)
            except CycleGanEdgeError as error:
                self._notify(f"{model} was not taken: {error}")
            else:
                self._pipeline.translator = self._translator = translator
                self._model = model
                self._notify(f"{model} has taken over.")
            finally:
                self._loading = None
