"""How a step is computed: each setting here changes the time and memory of a run, and its numbers only by rounding.

resolve          turns every "auto" into what suits the device, so that a run can print it and a benchmark name it
prepare_network  memory layout, norms, checkpointing and torch.compile of one network
Executor         runs a forward pass of step.py with its backward pass: autocast, CUDA graph, accumulation, DDP
"""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.train.cuda_graph import CudaGraphed
from cyclegan_edge.train.distributed import ProcessGroup
from cyclegan_edge.train.networks import InstanceNorm, ResnetGenerator

TrainPrecision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Switch = Literal["auto", "on", "off"]

CHECKPOINT_FROM = 512  # px: from here on, activations are worth more than the time to compute them again


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionConfig:
    """What is done to be fast; InstanceNorm and the losses stay in float32 in every precision."""

    precision: TrainPrecision = "auto"  # of the convolutions. auto: bf16 where the device has it, else fp32
    batched: bool = True  # pictures that meet the same network share one pass
    channels_last: Switch = "auto"  # auto: on CUDA
    compile: Switch = "auto"  # torch.compile of the networks. auto: on CUDA, where Triton can run
    cuda_graphs: Switch = "auto"  # capture both passes and replay them. auto: on CUDA, up to batch 4
    checkpointing: Switch = "auto"  # compute activations again instead of keeping them. auto: from 512 px on
    accumulate: int = 1  # parts that a batch is computed in, one after the other; less memory, the same result

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ConfigError(f"speed.accumulate is {self.accumulate}, expected at least 1.")


PLAIN = ExecutionConfig(
    precision="fp32",
    batched=False,
    channels_last="off",
    compile="off",
    cuda_graphs="off",
    checkpointing="off",
)  # the algorithm as it is written in the paper; every faster setting is tested against it


@dataclass(frozen=True, slots=True)
class Execution:
    """An ExecutionConfig with nothing left open."""

    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    batched: bool
    channels_last: bool
    compile: bool
    cuda_graphs: bool
    checkpointing: bool
    accumulate: int

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Inside, convolutions compute in half precision if `precision` says so."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(device.type, dtype)

    def __str__(self) -> str:
        switches = ("channels_last", "compile", "cuda_graphs", "checkpointing")
        parts = [f"accumulate {self.accumulate}"] if self.accumulate > 1 else []
        return ", ".join([self.precision, *(name for name in switches if getattr(self, name)), *parts])


def resolve(config: ExecutionConfig, device: torch.device, *, size: int, batch: int, world_size: int = 1) -> Execution:
    """What `config` means on `device` for `batch` crops of `size` px in this process, one of `world_size`.

    Raises ConfigError for what the device or the other settings rule out.
    """
    cuda = device.type == "cuda"
    checkpointing = _on(config.checkpointing, auto=size >= CHECKPOINT_FROM)
    reasons = {  # why a graph cannot be captured
        "it needs a CUDA device": not cuda,
        "several processes exchange gradients in between": world_size > 1,
        "a batch in parts adds gradients up": config.accumulate > 1,
        "checkpointing decides at every step what to recompute": checkpointing,
        "precision fp16 may skip steps": config.precision == "fp16",
    }
    hindrances = [reason for reason, applies in reasons.items() if applies]
    if config.cuda_graphs == "on" and hindrances:
        raise ConfigError(f"speed.cuda_graphs is 'on', but {hindrances[0]}; set it to 'auto' or 'off'.")
    if batch % config.accumulate:
        raise ConfigError(
            f"speed.accumulate is {config.accumulate}, but {batch} pairs cannot be cut into so many equal parts."
        )
    return Execution(
        precision=_precision(config.precision, device),
        batched=config.batched,
        channels_last=_on(config.channels_last, auto=cuda),
        compile=_on(config.compile, auto=cuda and _can_compile()),
        cuda_graphs=_on(config.cuda_graphs, auto=not hindrances and batch <= 4),
        checkpointing=checkpointing,
        accumulate=config.accumulate,
    )


def prepare_network(network: nn.Module, execution: Execution) -> None:
    """Set the memory layout, the norms and the compilation of a network; its weights stay the same."""
    if execution.channels_last:
        network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, InstanceNorm):
            module.decomposed = execution.compile or (execution.channels_last and next(network.parameters()).is_cuda)
        if isinstance(module, ResnetGenerator):
            module.checkpointing = execution.checkpointing
    if execution.compile:
        network.compile(dynamic=False)


def allow_tf32(execution: Execution) -> None:
    """Let CUDA multiply float32 in TF32 (10 bits of mantissa) when asked to, and not otherwise; torch-wide."""
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = execution.precision != "fp32"
        torch.backends.cudnn.allow_tf32 = execution.precision != "fp32"
        torch.backends.cudnn.benchmark = True  # every shape of a run comes again


def apply_to_both(network: nn.Module, one: Tensor, other: Tensor, *, batched: bool) -> tuple[Tensor, Tensor]:
    """The network on two batches; in one forward pass when `batched` and of one shape."""
    if not batched or one.shape != other.shape:
        return network(one), network(other)
    first, second = network(torch.cat((one, other))).chunk(2)
    return first, second


class PassResult(Protocol):
    """A named tuple of tensors: 0-d losses, which are means over the batch, and (N, C, S, S) pictures."""

    def __init__(self, *values: Tensor) -> None: ...

    @property
    def total(self) -> Tensor:
        """The loss to minimise."""

    def __iter__(self) -> Iterator[Tensor]: ...


Result = TypeVar("Result", bound=PassResult)


class Executor(Generic[Result]):
    """Computes a pass over a batch and leaves the gradients of its `total` in the parameters of `optimiser`.

    `module` computes the pass: tensors -> `Result`; its parameters are those of the optimiser. With several processes
    the gradients are those of the whole batch, in every process.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        execution: Execution,
        group: ProcessGroup,
    ) -> None:
        self._optimiser, self._scaler, self._execution = optimiser, scaler, execution
        self._device = next(module.parameters()).device
        self._module = module if group.world_size == 1 else _distributed(module, self._device)
        graphed = CudaGraphed(self._forward_backward, optimiser.zero_grad) if execution.cuda_graphs else None
        self._run = graphed or self._forward_backward

    def __call__(self, *batches: Tensor) -> Result:
        """The result without gradient, in float32: losses averaged over the parts of the batch, pictures joined.

        A CUDA graph overwrites it in the next call.
        """
        if not self._execution.cuda_graphs:  # a graph overwrites the gradients of its last replay
            self._optimiser.zero_grad(set_to_none=True)
        *parts, last = zip(*(batch.chunk(self._execution.accumulate) for batch in batches), strict=True)
        if not parts:
            return self._run(*last)
        with self._without_gradient_exchange():
            results = [self._run(*part) for part in parts]
        columns = zip(*results, self._run(*last), strict=True)
        merged = (torch.stack(values).mean() if values[0].ndim == 0 else torch.cat(values) for values in columns)
        return type(results[0])(*merged)

    def _forward_backward(self, *inputs: Tensor) -> Result:
        if self._execution.channels_last:
            inputs = tuple(one.to(memory_format=torch.channels_last) for one in inputs)
        with self._execution.autocast(self._device):
            result: Result = self._module(*inputs)
        self._scaler.scale(result.total / self._execution.accumulate).backward()  # type: ignore[no-untyped-call]
        return type(result)(*(value.detach().float() for value in result))

    def _without_gradient_exchange(self) -> AbstractContextManager[Any]:
        """Inside, gradients of several processes add up locally; the next backward pass outside exchanges them."""
        return self._module.no_sync() if isinstance(self._module, DistributedDataParallel) else nullcontext()


def _distributed(module: nn.Module, device: torch.device) -> DistributedDataParallel:
    device_ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=device_ids, gradient_as_bucket_view=True)


def _on(switch: Switch, *, auto: bool) -> bool:
    return auto if switch == "auto" else switch == "on"


def _precision(wanted: TrainPrecision, device: torch.device) -> Literal["fp32", "tf32", "bf16", "fp16"]:
    if wanted in ("tf32", "fp16") and device.type != "cuda":
        raise ConfigError(f"speed.precision is {wanted!r}, which needs a CUDA device; use fp32 or bf16.")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _cpu_multiplies_bf16() else "fp32"


def _cpu_multiplies_bf16() -> bool:
    """Linux lists what the CPU can do; elsewhere float32 it is."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(flags))


def _can_compile() -> bool:
    """torch.compile writes code for Triton, which builds its launcher with a C compiler."""
    import importlib.util

    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
