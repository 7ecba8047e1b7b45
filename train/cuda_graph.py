"""A function of tensors, recorded once as a CUDA graph and replayed: one launch instead of hundreds.

The recording fixes addresses, so inputs are copied into it and outputs are overwritten by the next call. What the
function leaves in the gradients is part of it: they must not be there while it is recorded, and stay where they are
afterwards. (https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture)
"""

from collections.abc import Callable

import torch
from torch import Tensor

Passes = Callable[..., tuple[Tensor, ...]]

_WARM_UP = 3  # calls before the recording: cuDNN chooses its algorithms, torch.compile compiles


class CudaGraphed:
    """Calls `function` as a CUDA graph; `forget` takes the gradients away that the warm-up left."""

    def __init__(self, function: Passes, forget: Callable[[], None]) -> None:
        self._function = function
        self._forget = forget
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `function` gives, in memory that the next call overwrites."""
        if self._graph is None:
            self._record(inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        assert self._graph is not None  # _record has just made it
        self._graph.replay()
        return self._outputs

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [given.detach().clone(memory_format=torch.preserve_format) for given in inputs]
        beside: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                self._forget()
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self._forget()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = self._function(*self._inputs)
        self._graph = graph
