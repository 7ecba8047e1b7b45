"""What only TensorRT for RTX has at run time: kernels that are finished on the GPU that runs them.

A plan holds kernels for any shape; those for the shape at hand are compiled when it is first seen, or while slower ones
run meanwhile. They are kept in one file per user, GPU and version, so that the second start is fast. CUDA graphs are
its own: it knows when kernels are replaced, and a graph captured around it would keep the slow ones
(https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-cuda-graphs.html).
"""

import contextlib
import re
from pathlib import Path

from cyclegan_edge.backends.tensorrt.api import ICudaEngine, IExecutionContext, TensorRT
from cyclegan_edge.bundle import Device
from cyclegan_edge.files import atomic_file, user_cache

_MAX_BYTES = 1 << 30  # of a cache file that is read


class KernelCache:
    """The compiled kernels of one engine on one GPU, and the contexts that use them."""

    def __init__(self, trt: TensorRT, engine: ICudaEngine, here: Device) -> None:
        self._trt, self._engine = trt, engine
        self._file = cache_file(here)
        self._cache = engine.create_runtime_config().create_runtime_cache()
        with contextlib.suppress(OSError):  # there is none yet
            if self._file.stat().st_size <= _MAX_BYTES:
                self._cache.deserialize(self._file.read_bytes())  # refuses what is damaged or of another driver

    def new_context(self, *, eager: bool) -> IExecutionContext | None:
        """A context that waits for the kernels of each new shape (`eager`), or runs slower ones until they are there.

        None when there is no room for it.
        """
        config, strategy = self._engine.create_runtime_config(), self._trt.DynamicShapesKernelSpecializationStrategy
        config.set_runtime_cache(self._cache)
        config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER if eager else strategy.LAZY
        return self._engine.create_execution_context(config)

    def save(self) -> None:
        """Keep what was compiled for the next start; a full disk only makes that one slower."""
        with contextlib.suppress(OSError), atomic_file(self._file) as partial:
            partial.write_bytes(bytes(self._cache.serialize()))


def cache_file(here: Device) -> Path:
    """Where the kernels for this GPU and version lie, in the user's cache."""
    name = f"{here.gpu}-{here.compute_capability}-{here.tensorrt}-{here.platform}"
    return user_cache("tensorrt-rtx") / (re.sub(r"[^A-Za-z0-9.]+", "-", name) + ".cache")
