"""The friendly face of an exported model: an RGB picture in, the translated picture of the same size out.

    translator = Translator.load("models/scenes")
    winter = translator(summer)  # uint8 (H, W, 3) RGB, both

A live loop that wants to time the stages calls the three that `translator(...)` is made of:

    image (H, W, 3) -- prepare --> batch (1, h, w, 3) -- run --> batch (1, h, w, 3) -- restore --> image (H, W, 3)

Everything is uint8 RGB. `fit` decides h and w, always multiples of 4:

    aspect    the short side becomes `size`, the shape is kept    what the model saw in training; the default
    stretch   both sides become `size`                            the cheapest, and constant for any camera
    native    the image's own size, mirrored at the bottom and    the sharpest and slowest
              the right to a multiple of 4 and cropped again
"""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from cyclegan_edge import postprocess, preprocess
from cyclegan_edge.backends import Backend, EngineName, open_backend
from cyclegan_edge.bundle import MULTIPLE, Bundle, Precision, read_bundle
from cyclegan_edge.errors import ConfigError, ImageError
from cyclegan_edge.images import check_rgb

Fit = Literal["aspect", "stretch", "native"]

MIN_SIDE = 8  # px: the residual blocks mirror one pixel at a quarter of the size, so two must be there
MAX_BATCH_PIXELS = 1 << 24  # 4096x4096, where one 64-channel float32 layer alone takes 4 GiB


class Translator:
    """One opened model with one way to fit pictures into it. Not for use from two threads at once."""

    def __init__(
        self,
        backend: Backend,
        *,
        size: int = 256,
        fit: Fit = "aspect",
        bundle: Bundle | None = None,
        passed_over: tuple[str, ...] = (),
    ) -> None:
        """Wrap an opened `backend`; `size` in px is not used when `fit` is "native". Raises ConfigError."""
        if fit not in ("aspect", "stretch", "native"):
            raise ConfigError(f"fit is {fit!r}, expected 'aspect', 'stretch' or 'native'.")
        if size < MIN_SIDE or size % MULTIPLE:
            nearest = max(MIN_SIDE, round(size / MULTIPLE) * MULTIPLE)
            raise ConfigError(
                f"size is {size}, but the generator halves its input twice, so size must be a multiple of {MULTIPLE} "
                f"and at least {MIN_SIDE}; try {nearest}."
            )
        self._backend = backend
        self.size = size
        self.fit: Fit = fit
        self.bundle = bundle  # None when a bare backend was given
        self.passed_over = passed_over  # why engine="auto" did not take a faster engine, a sentence each

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        engine: EngineName = "auto",
        precision: Precision | None = None,
        fit: Fit = "aspect",
        size: int | None = None,
        threads: int | None = None,
    ) -> "Translator":
        """Open the exported model in the folder `bundle`.

        precision   None: fp16 for TensorRT where the bundle has it, fp32 for the CPU engines
        size        px; None: what the model was trained on
        threads     of a CPU engine; None: every core this process may use

        Raises BundleError, EngineError and ConfigError.
        """
        opened = read_bundle(Path(bundle))
        backend, passed_over = open_backend(opened, engine=engine, precision=precision, threads=threads)
        return cls(backend, size=size or opened.manifest.size, fit=fit, bundle=opened, passed_over=passed_over)

    @property
    def name(self) -> str:
        """The engine, its version and the precision: "onnxruntime 1.32.0 fp32"."""
        return self._backend.name

    @property
    def device(self) -> str:
        """Where it runs: "CPU, 2 threads"."""
        return self._backend.device

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Translate uint8 (H, W, 3) RGB into the same shape. Raises ImageError and EngineError."""
        batch = self.prepare(image)
        return self.restore(self.run(batch), *image.shape[:2])

    def prepare(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 (H, W, 3) -> (1, h, w, 3), fitted. Raises ImageError."""
        check_rgb(image)
        height, width = image.shape[:2]
        target = fitted_shape(height, width, fit=self.fit, size=self.size)
        if target == (height, width):
            fitted = np.ascontiguousarray(image)
        elif self.fit == "native":
            bottom, right = target[0] - height, target[1] - width
            fitted = np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REFLECT_101), np.uint8)
        else:
            fitted = preprocess.resize(image, target)
        return fitted[np.newaxis]

    def run(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 (1, h, w, 3) -> the same shape, translated. Raises EngineError."""
        return self._backend.run(batch)

    def restore(self, batch: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
        """uint8 (1, h, w, 3) -> (height, width, 3), the size of the image that was prepared."""
        if self.fit == "native":
            return postprocess.crop_padding(batch, height, width)
        return postprocess.resize_back(batch, height, width)


def fitted_shape(height: int, width: int, *, fit: Fit, size: int) -> tuple[int, int]:
    """Height and width of the batch for an image of `height` x `width`. Raises ImageError when it would be enormous."""
    match fit:
        case "stretch":
            shape = size, size
        case "aspect":
            scale = size / min(height, width)
            shape = _nearest_multiple(height * scale), _nearest_multiple(width * scale)
        case "native":
            shape = max(MIN_SIDE, -(-height // MULTIPLE) * MULTIPLE), max(MIN_SIDE, -(-width // MULTIPLE) * MULTIPLE)
    if shape[0] * shape[1] > MAX_BATCH_PIXELS:
        remedy = "choose a smaller size or the fit 'stretch'" if fit == "aspect" else "choose the fit 'aspect'"
        raise ImageError(
            f"An image of {width}x{height} would be translated at {shape[1]}x{shape[0]} with the fit {fit!r}, "
            f"more than {MAX_BATCH_PIXELS >> 20} megapixels; {remedy}."
        )
    return shape


def _nearest_multiple(length: float) -> int:
    return round(length / MULTIPLE) * MULTIPLE
