"""Has the interface of the reference implementation that benchmarks/train_steps.py calls, and notes the calls."""

from argparse import Namespace
from typing import Any

import torch


class Model:
    def __init__(self, options: Namespace) -> None:
        self.options = options
        self.done: list[str] = []

    def setup(self, options: Namespace) -> None:
        assert options is self.options
        self.done.append("setup")
        self.weight = torch.nn.Parameter(torch.ones(3, 3, 1, 1, device=options.device))

    def set_input(self, given: dict[str, Any]) -> None:
        self.real_a, self.real_b = given["A"], given["B"]
        assert given["A_paths"] == given["B_paths"] == []
        self.done.append("set_input")

    def optimize_parameters(self) -> None:
        torch.nn.functional.conv2d(self.real_a, self.weight).sum().backward()  # type: ignore[no-untyped-call]
        self.done.append("optimize_parameters")


LAST: Model  # that was made


def create_model(options: Namespace) -> Model:
    global LAST
    LAST = Model(options)
    return LAST
