"""A function of tensors, captured once as a CUDA graph and replayed: one launch instead of hundreds.

A graph fixes addresses, so inputs are copied into it and outputs are overwritten by the next call. Gradients that the
function writes belong to it: they must not exist while it is captured, and stay at their addresses afterwards.
(https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture)
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

_WARM_UP = 3  # calls before the capture: cuDNN chooses its algorithms, torch.compile compiles

Result = TypeVar("Result")


class CudaGraphed(Generic[Result]):
    """Calls `function` as a CUDA graph; `zero_grad` removes the gradients that the warm-up left."""

    def __init__(self, function: Callable[..., Result], zero_grad: Callable[[], None]) -> None:
        self._function = function
        self._zero_grad = zero_grad
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: Result

    def __call__(self, *inputs: Tensor) -> Result:
        """What `function` returns, in memory that the next call overwrites."""
        if self._graph is None:
            self._graph = self._capture(inputs)
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        self._inputs = tuple(given.detach().clone(memory_format=torch.preserve_format) for given in inputs)
        side_stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(_WARM_UP):
                self._zero_grad()
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side_stream)
        self._zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = self._function(*self._inputs)
        return graph
