"""ncnn, the fastest float32 engine on many CPUs: its 3x3 convolutions are Winograd's. It pays in memory, three times
that of the others, and in the first picture of every size, which takes seconds.

Its graph is the bare generator, float32 (3, H, W) in -1..1, one picture at a time. So this file does what is nodes in
the ONNX graph, in the same order and with the same rounding.
"""

import os

import ncnn
import numpy as np
import numpy.typing as npt

from cyclegan_edge.backends.ncnn_param import read_graph
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import MIN_SIDE, Precision, to_levels, to_signal
from cyclegan_edge.errors import BundleError, EngineError
from cyclegan_edge.geometry import check_batch

INPUT, OUTPUT = "in0", "out0"  # as pnnx names them


class NcnnBackend:
    """Runs the ncnn graph of a bundle on the CPU; see `Backend` for shapes and dtypes."""

    def __init__(self, bundle: Bundle, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        """Open the graph of `precision` on `threads` CPU threads (default: every core this process may use).

        The precision is that of the stored weights; what is computed is float32.

        Raises BundleError when the bundle has no such graph or it is damaged, EngineError when ncnn refuses it.
        """
        artifact = bundle.artifact("ncnn", precision)
        if artifact is None or len(artifact.parts) != 1:
            raise BundleError(
                f"{bundle.folder} holds no {precision} ncnn graph; add it with `cyclegan-edge export "
                f"{bundle.folder} --ncnn{' --fp16' if precision == 'fp16' else ''}`."
            )
        path = bundle.path(artifact)
        threads = threads or len(os.sched_getaffinity(0))
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.opt.use_fp16_packed = False  # these three are on by default: other pixels, on ARM
        self._net.opt.use_fp16_storage = False
        self._net.opt.use_fp16_arithmetic = False
        weights = path.with_name(artifact.parts[0].file)
        self._multiple = bundle.manifest.multiple
        self._graph = read_graph(path, weights, side=2 * max(MIN_SIDE, self._multiple))
        opened = self._net.load_param(str(path)) == 0 and self._net.load_model(str(weights)) == 0
        if not opened or (self._net.input_names(), self._net.output_names()) != ([INPUT], [OUTPUT]):
            raise EngineError(f"ncnn {ncnn.__version__} refuses {path}; export the model again.")
        self.name = f"ncnn {ncnn.__version__} {precision}"
        self.device = f"CPU, {threads} threads"

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 (N, H, W, 3) RGB -> the same shape, translated one after the other."""
        check_batch(images, self._multiple)  # ncnn itself would mirror rows that are not there
        self._graph.check_size(*images.shape[1:3])
        translated = np.empty_like(images)
        for image, result in zip(images, translated, strict=True):
            result[:] = self._translated(image)
        return translated

    def _translated(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) -> the same shape."""
        planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)  # ncnn reads it where it lies
        planes = to_signal(planes)
        extractor = self._net.create_extractor()
        extractor.input(INPUT, ncnn.Mat(planes))
        failed, output = extractor.extract(OUTPUT)
        if failed:
            raise EngineError(
                f"ncnn could not translate a picture of shape {image.shape}; is there memory for it? Try a smaller one."
            )
        made: npt.NDArray[np.float32] = np.array(output, np.float32)  # a copy: the extractor's memory goes with it
        return to_levels(made).transpose(1, 2, 0).astype(np.uint8)
