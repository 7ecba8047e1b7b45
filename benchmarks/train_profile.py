"""Where the time of a training step goes: every kernel's time by what the kernel is for.

On CUDA the kernels of the GPU, on the CPU torch's operations. Names decide: those of cuDNN, of torch's own kernels, and
those that torch.compile makes of the operations that it fused, so what shares a kernel shares a class here. What is
left of the span from the first to the last kernel are gaps, in which nothing ran.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_PATTERNS = {  # the first that a name has decides; names are in lower case
    "optimiser": r"adam|multi_tensor",
    "padding": r"reflection_pad|replication_pad|constant_pad",
    "InstanceNorm": r"batch_norm|instance_norm|bn_[fb]w|var_mean|welford|rsqrt",
    "layout conversion": r"nchwtonhwc|nhwctonchw|nhwcaddpadding|transpose|tensor_?transform",
    "convolution": r"conv|[fd]prop|dgrad|wgrad|gemm|xmma|winograd|nvjet|cutlass",
    "copies and casts": r"memcpy|memset|copy|catarray|aten::cat|aten::clone",
}
_FUSED = ("InstanceNorm", "padding", "optimiser")  # told apart within what torch.compile fused
_CONVOLUTION_OF_TRITON = "triton_tem"  # a template; elsewhere "convolution" in a fused name is its bias
OTHER, GAPS = "other arithmetic", "gaps"


@dataclass(frozen=True)
class Kernel:
    name: str
    milliseconds: float  # a step
    calls: float  # a step


@dataclass(frozen=True)
class Profile:
    """Of one step: milliseconds by class, the largest first, gaps among them, and the kernels that take most."""

    milliseconds: dict[str, float]
    kernels: list[Kernel]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def class_of(name: str) -> str:
    """What a kernel or an operation is for: "convolution", "InstanceNorm + padding" where both are in one kernel."""
    name = name.lower()
    if name.startswith("triton"):
        if name.startswith(_CONVOLUTION_OF_TRITON):
            return "convolution"
        return " + ".join(it for it in _FUSED if re.search(_PATTERNS[it], name)) or OTHER
    return next((it for it, pattern in _PATTERNS.items() if re.search(pattern, name)), OTHER)


def profiled(step: Callable[[], object], device: torch.device, *, steps: int = 3, most: int = 15) -> Profile:
    """Profile `steps` steps, which must be warm; `most` kernels are named."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            step()
        if cuda:
            torch.cuda.synchronize()
    return summary(recorded.events(), cuda=cuda, steps=steps, most=most)


def summary(events: Iterable[Any], *, cuda: bool, steps: int, most: int) -> Profile:
    """What torch's profiler recorded of `steps` steps; the ranges that an optimiser names on the GPU are no kernels."""
    if cuda:
        kernels = [it for it in events if it.device_type == DeviceType.CUDA and not it.is_user_annotation]
    else:
        kernels = [it for it in events if it.device_type == DeviceType.CPU]
    spans = [(it.time_range.start, it.time_range.end) for it in kernels]
    took = [end - start for start, end in spans] if cuda else [it.self_cpu_time_total for it in kernels]
    found, calls = Counter[str](), Counter[str]()
    for kernel, microseconds in zip(kernels, took, strict=True):
        found[kernel.name] += microseconds
        calls[kernel.name] += 1
    classes = Counter[str]()
    for name, microseconds in found.items():
        classes[class_of(name)] += microseconds
    whole = max(end for _, end in spans) - min(start for start, _ in spans)
    classes[GAPS] = max(0.0, whole - (covered(spans) if cuda else sum(took)))
    each = 1e3 * steps
    return Profile(
        {name: spent / each for name, spent in classes.most_common()},
        [Kernel(name, spent / each, calls[name] / steps) for name, spent in found.most_common(most)],
    )


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How much time lies in at least one of the spans."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
