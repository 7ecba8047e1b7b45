"""The friendly face of an exported model: an RGB picture in, the translated picture of the same size out.

    translator = Translator.load("models/scenes")
    winter = translator(summer)  # uint8 (H, W, 3) RGB, both; or a path, a picture of Pillow's, a list, a batch

A live loop that wants to time the stages calls the three that `translator(...)` is made of:

    image (H, W, 3) -- prepare --> batch (1, h, w, 3) -- run --> batch (1, h, w, 3) -- restore --> image (H, W, 3)

Everything is uint8 RGB; `geometry` decides h and w. With bgr=True the images at both ends are BGR, as OpenCV has them;
batches are RGB always, and the resize exchanges the channels on the way.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, overload

import cv2
import numpy as np
from PIL import Image

from cyclegan_edge import postprocess, preprocess
from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import Backend, Closable, EngineName, run_many
from cyclegan_edge.bundle import Bundle, read_bundle
from cyclegan_edge.contract import MULTIPLE, Batch, Picture, Size, WantedPrecision
from cyclegan_edge.errors import EngineError
from cyclegan_edge.geometry import Fit, check_fit, fitted_shape
from cyclegan_edge.images import check_rgb, from_pillow, read_image

__all__ = ["Fit", "Translator"]

_LEAST_MIRRORED = 64  # px: in a smaller batch four pixels of the picture matter more than the pattern


T = TypeVar("T")


class _Closed:
    """The backend of a translator that was closed."""

    device = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, images: Batch) -> Batch:
        raise EngineError(f"The translator with {self.name} was closed; load the model again.")


class Translator:
    """One opened model with one way to fit pictures into it. Holds no state between pictures."""

    def __init__(
        self,
        backend: Backend,
        *,
        size: int = 256,
        fit: Fit = "aspect",
        bundle: Bundle | None = None,
        remarks: tuple[str, ...] = (),
        mirrored: bool = False,
    ) -> None:
        """Wrap an opened `backend`; `size` in px does not matter when `fit` is "native". Raises ConfigError.

        With `mirrored` four pixels of mirror image lie above and left of the picture while it is translated: there
        alone the strided convolutions of a ResNet pad with zeros, which shows as a pattern in the first row and column.
        The batch keeps its shape and the picture in it becomes that much smaller; "native" is left as it is.
        """
        self._multiple = bundle.manifest.multiple if bundle else MULTIPLE
        check_fit(fit, size, self._multiple)
        self._backend = backend
        self._mirrored = mirrored
        self.name = backend.name  # engine, version and precision: "onnxruntime 1.32.0 fp32"
        self.device = backend.device  # "CPU, 2 threads"
        self.size = size
        self.fit = fit
        self.bundle = bundle  # None when a bare backend was given
        self.remarks = remarks  # a sentence each: why engine="auto" took no faster engine, what opening it took

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        engine: EngineName = "auto",
        precision: WantedPrecision | None = None,
        fit: Fit = "aspect",
        size: int | None = None,
        threads: int | None = None,
        mirrored: bool = False,
    ) -> "Translator":
        """Open the exported model in the folder `bundle`.

        precision   None: fp16 on a GPU where the bundle has it, fp32 on the CPU; "any": also what is less exact and
                    faster on this CPU, within the bound of its precision
        size        px; None: what the model was trained on
        threads     of a CPU engine; None: every core this process may use

        Raises BundleError, EngineError and ConfigError.
        """
        content = read_bundle(Path(bundle))
        if size is None:
            size = content.manifest.size
        check_fit(fit, size, content.manifest.multiple)  # before the engine, which takes seconds to open
        backend, remarks = open_backend(content, engine=engine, precision=precision, threads=threads, size=size)
        return cls(backend, size=size, fit=fit, bundle=content, remarks=remarks, mirrored=mirrored)

    @overload
    def __call__(self, image: Picture | str | Path, *, bgr: bool = False) -> Picture: ...
    @overload
    def __call__(self, image: Image.Image, *, bgr: bool = False) -> Image.Image: ...
    @overload
    def __call__(self, image: Iterator[Picture], *, bgr: bool = False) -> Iterator[Picture]: ...
    @overload
    def __call__(self, image: list[T] | tuple[T, ...], *, bgr: bool = False) -> list[T]: ...
    def __call__(self, image: Any, *, bgr: bool = False) -> Any:
        """Translate a picture into one of its size.

            uint8 (H, W, 3) RGB, any strides    the same shape; BGR there and back with `bgr`
            uint8 (N, H, W, 3)                  the same shape
            a path, a str                       what the file holds, translated, as an array
            a picture of Pillow's               another, in RGB
            a list of these                     a list
            an iterator of arrays               an iterator, as `many`: a video is translated as it is read

        Several threads may call it at once. Raises ImageError and EngineError.
        """
        match image:
            case str() | Path():
                read = read_image(image)
                return self(read[..., ::-1] if bgr else read, bgr=bgr)
            case Image.Image():
                return Image.fromarray(self(from_pillow(image)))
            case list() | tuple():
                return [self(one, bgr=bgr) for one in image]
            case Iterator():
                return self.many(image, bgr=bgr)
            case np.ndarray() if image.ndim == 4 and len(image):
                return np.stack([self(one, bgr=bgr) for one in image])
        batch = self.prepare(image, bgr=bgr)
        return self.restore(self.run(batch), image.shape[0], image.shape[1], bgr=bgr)

    def close(self) -> None:
        """Free the memory of the engine now; the translator cannot be used again."""
        if isinstance(self._backend, Closable):
            self._backend.close()
        self._backend = _Closed(self.name)

    def __enter__(self) -> "Translator":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        model = f"{str(self.bundle.folder)!r}, " if self.bundle else ""
        return f"<Translator {model}{self.name} on {self.device}, fit={self.fit!r}, size={self.size}>"

    def many(self, images: Iterable[Picture], *, bgr: bool = False) -> Iterator[Picture]:
        """Translate each of `images` as a call does, in order and several at once where the engine can: for throughput.

        It reads a few images ahead; `bgr`: all are BGR. An error of one comes after the results of those before it.
        """
        shapes: deque[tuple[int, ...]] = deque()

        def batches() -> Iterator[Batch]:
            for image in images:
                batch = self.prepare(image, bgr=bgr)
                shapes.append(image.shape)
                yield batch

        for batch in run_many(self._backend, batches()):
            height, width, _ = shapes.popleft()
            yield self.restore(batch, height, width, bgr=bgr)

    def prepare(self, image: Picture, *, bgr: bool = False) -> Batch:
        """uint8 (H, W, 3) -> (1, h, w, 3) RGB, fitted; `bgr`: the image is BGR. Raises ImageError."""
        check_rgb(image)
        height, width = image.shape[:2]
        if image.strides[1:] != (3, 1) or image.strides[0] < 3 * width:
            image = np.ascontiguousarray(image)  # turned, mirrored, or with its channels exchanged
        shape = fitted_shape(height, width, fit=self.fit, size=self.size, multiple=self._multiple)
        if margin := self._margin(shape):
            inner = preprocess.resize(image, (shape[0] - margin, shape[1] - margin), bgr=bgr)
            mirrored = cv2.copyMakeBorder(inner, margin, 0, margin, 0, cv2.BORDER_REFLECT_101)
            return np.asarray(mirrored, np.uint8)[np.newaxis]
        if shape != (height, width) and self.fit != "native":
            return preprocess.resize(image, shape, bgr=bgr)[np.newaxis]
        if bgr:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        if shape == (height, width):
            return np.ascontiguousarray(image)[np.newaxis]
        padded = cv2.copyMakeBorder(image, 0, shape[0] - height, 0, shape[1] - width, cv2.BORDER_REFLECT_101)
        return np.asarray(padded, np.uint8)[np.newaxis]

    def run(self, batch: Batch) -> Batch:
        """uint8 (1, h, w, 3) -> the same shape, translated. Raises EngineError."""
        return self._backend.run(batch)

    def restore(self, batch: Batch, height: int, width: int, *, bgr: bool = False) -> Picture:
        """uint8 (1, h, w, 3) RGB -> (height, width, 3), the size of the image that was prepared; BGR with `bgr`."""
        if self.fit == "native":
            return postprocess.crop_padding(batch, height, width, bgr=bgr)
        if margin := self._margin((batch.shape[1], batch.shape[2])):
            batch = np.ascontiguousarray(batch[:, margin:, margin:])
        return postprocess.resize_back(batch, height, width, bgr=bgr)

    def _margin(self, shape: Size) -> int:
        """Pixels of mirror image above and left of the picture in a batch of that height and width."""
        wanted = (
            self._mirrored and self.fit != "native" and self._multiple == MULTIPLE and min(shape) >= _LEAST_MIRRORED
        )
        return MULTIPLE if wanted else 0
