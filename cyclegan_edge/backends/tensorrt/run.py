"""Running a plan of TensorRT, or of TensorRT for RTX, as CUDA graphs.

Images cross to the GPU and back as uint8 through page-locked memory. The first batch of a shape runs plainly, from the
second on one CUDA graph holds copy, network and copy; another shape starts over, because a graph is valid only as long
as its execution context keeps its shapes. `run` has one batch on its way, for latency; `run_many` has several, each in
a slot of its own, so that one is copied while another is computed. TensorRT for RTX captures its own graphs (rtx.py).
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from cyclegan_edge.backends.cuda import DeviceBuffer, Graph, PinnedBuffer, Stream
from cyclegan_edge.backends.tensorrt.library import CHANNELS, TENSORRT, Edition, Shape
from cyclegan_edge.backends.tensorrt.plan import Plan, open_plan, rebuild_command, shape_of
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import IMAGE, TRANSLATED, Batch, Precision
from cyclegan_edge.errors import EngineError
from cyclegan_edge.geometry import check_batch

IN_FLIGHT = 3  # one copied in, one computed, one copied out


class TensorrtBackend:
    """Runs the engine of a bundle on the first visible GPU; see `Backend` for shapes and dtypes.

    `run` has one context and one stream: calls from several threads take turns.
    """

    def __init__(
        self, bundle: Bundle, *, precision: Precision = "fp16", edition: Edition = TENSORRT, cuda_graph: bool = True
    ) -> None:
        """Open the engine of `precision`; `cuda_graph=False` launches every layer by itself.

        Raises what `open_plan` raises, and EngineError when the GPU's memory is full.
        """
        plan = open_plan(bundle, precision, edition)
        self.name = f"{edition.name} {plan.here.tensorrt} {precision}"
        self.device = plan.here.gpu
        self.note = plan.note  # what was done to open it, a sentence, or nothing
        self._plan = plan
        self._multiple = bundle.manifest.multiple
        self._cuda_graph = cuda_graph
        self._rebuild = rebuild_command(bundle.folder)
        self._lock = threading.Lock()
        self._slot = Slot(plan, cuda_graph=cuda_graph, eager=True)

    def run(self, images: Batch) -> Batch:
        """uint8 (N, H, W, 3) RGB -> the same shape, translated."""
        self._check(images)
        with self._lock:
            return self._slot.run(images)

    def run_many(self, batches: Iterable[Batch], *, in_flight: int = IN_FLIGHT) -> Iterator[Batch]:
        """What `run` gives for each of `batches`, in order, with up to `in_flight` of them on their way at once.

        An error of a batch, or of `batches` itself, comes after the results of the batches before it.
        """
        with contextlib.ExitStack() as stack:
            free: list[Slot] = []
            busy: deque[Slot] = deque()
            failure: Exception | None = None
            waiting = iter(batches)
            while failure is None:
                if len(busy) == in_flight:
                    free.append(busy.popleft())
                    yield free[-1].finish()
                try:
                    images = next(waiting)
                    self._check(images)
                    slot = free.pop() if free else stack.enter_context(Slot(self._plan, cuda_graph=self._cuda_graph))
                    slot.start(images)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                else:
                    busy.append(slot)
            while busy:
                yield busy.popleft().finish()
            if failure is not None:
                raise failure

    def close(self) -> None:
        """Free the GPU's memory now rather than when the backend is collected; `run` must not be called again."""
        with self._lock:
            self._slot.close()
            del self._slot, self._plan

    def _check(self, images: Batch) -> None:
        check_batch(images, self._multiple)
        shape, low, high = shape_of(images.shape), self._plan.smallest, self._plan.largest
        if not all(least <= side <= most for least, side, most in zip(low, shape, high, strict=True)):
            size = f"--engine-size {shape[2]}x{shape[1]}" + (f" --max-batch {shape[0]}" if shape[0] > 1 else "")
            raise EngineError(
                f"The engine was built for batches of (N, H, W) from {low} to {high}, got {shape}; rebuild it for that "
                f"size with `{self._rebuild} {size}`."
            )


class Slot:
    """One batch on its way through an engine: a context, a stream, and memory at both ends of each copy.

    `start` returns at once, `finish` waits; between the two nothing else may be started.
    """

    def __init__(self, plan: Plan, *, cuda_graph: bool = True, eager: bool = False) -> None:
        """`eager` lets TensorRT for RTX finish the kernels of a shape before its first picture is done."""
        cuda, kernels = plan.cuda, plan.kernels
        context = kernels.new_context(eager=eager) if kernels else plan.engine.create_execution_context()
        if context is None:
            raise EngineError(
                f"{plan.edition.title} {plan.here.tensorrt} has no room to run the engine ({plan.log.reason()})."
            )
        self.context = context
        self._log = plan.log
        self._cuda_graph = cuda_graph and kernels is None
        self._kernels = kernels if eager else None  # to be saved after each new shape
        self._graph: Graph | None = None
        self._started: Shape | None = None  # the batch on its way
        self._ran: Shape | None = None  # what the context is set to, once it has run so
        nbytes = int(np.prod(plan.largest)) * CHANNELS
        with contextlib.ExitStack() as stack:  # the third allocation fails: the first two are freed
            self._stream = stack.enter_context(Stream(cuda))
            self._host_in = stack.enter_context(PinnedBuffer(cuda, nbytes))
            self._host_out = stack.enter_context(PinnedBuffer(cuda, nbytes))
            self._device_in = stack.enter_context(DeviceBuffer(cuda, nbytes))
            self._device_out = stack.enter_context(DeviceBuffer(cuda, nbytes))
            for tensor, buffer in ((IMAGE, self._device_in), (TRANSLATED, self._device_out)):
                if not context.set_tensor_address(tensor, buffer.handle):
                    raise EngineError(f"TensorRT refuses the memory for {tensor!r} ({plan.log.reason()}).")
            self._resources = stack.pop_all()

    def run(self, images: Batch) -> Batch:
        """uint8 (N, H, W, 3), within the plan's shapes -> the same shape, translated."""
        self.start(images)
        return self.finish()

    def start(self, images: Batch) -> None:
        """Enqueue a batch. Raises EngineError when TensorRT or CUDA refuses it."""
        shape = shape_of(images.shape)
        self._host_in.array[: images.size].reshape(images.shape)[:] = images
        if shape != self._ran:
            self._set_shape(shape)
            self._enqueue(images.size)  # once plainly, which settles what a capture must not contain
        elif self._cuda_graph:
            self._graph = self._graph or self._stream.capture(lambda: self._enqueue(images.size))
            self._graph.launch(self._stream)
        else:
            self._enqueue(images.size)
        self._started = shape

    def finish(self) -> Batch:
        """Wait for the batch that was started; its translation. Raises EngineError when it failed on the way."""
        shape, self._started = self._started, None
        assert shape is not None, "nothing was started"
        self._stream.synchronize()
        if self._kernels and self._ran is None:
            self._kernels.save()
        self._ran = shape
        translated = self._host_out.array[: int(np.prod(shape)) * CHANNELS].reshape((*shape, CHANNELS))
        return translated.copy()

    def close(self) -> None:
        """Wait for what is on its way, and free the GPU's memory."""
        if self._started:
            with contextlib.suppress(EngineError):  # nobody is left to be told
                self._stream.synchronize()
        self._drop_graph()
        self._resources.close()
        del self.context

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _set_shape(self, shape: Shape) -> None:
        self._drop_graph()
        self._ran = None
        if not self.context.set_input_shape(IMAGE, (*shape, CHANNELS)) or self.context.infer_shapes():
            raise EngineError(f"TensorRT refuses a batch of (N, H, W) {shape} ({self._log.reason()}).")

    def _enqueue(self, nbytes: int) -> None:
        self._stream.copy_to_device(self._device_in, self._host_in, nbytes)
        if not self.context.execute_async_v3(self._stream.handle):
            raise EngineError(f"TensorRT could not translate the batch ({self._log.reason()}).")
        self._stream.copy_to_host(self._host_out, self._device_out, nbytes)

    def _drop_graph(self) -> None:
        if self._graph:
            self._graph.close()
        self._graph = None
