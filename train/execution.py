"""How a step is computed: each setting here changes the time and memory of a run, and its numbers only by rounding.

`resolve` turns every "auto" into what suits the device, so that a run can print it and a benchmark can name it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.train.networks import InstanceNorm, ResnetGenerator

TrainPrecision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Switch = Literal["auto", "on", "off"]

CHECKPOINT_FROM = 512  # px: from here on, activations are worth more than the time to compute them again


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionConfig:
    """What is done to be fast; InstanceNorm and the losses stay in float32 in every precision."""

    precision: TrainPrecision = "auto"  # of the convolutions. auto: bf16 where the device has it, else fp32
    batched: bool = True  # pictures that meet the same network share one pass
    fused: bool = True  # Adam in one kernel
    channels_last: Switch = "auto"  # auto: on CUDA
    compile: Switch = "auto"  # torch.compile of the networks. auto: on CUDA, where Triton can run
    cuda_graphs: Switch = "auto"  # replay both passes as recorded launches. auto: on CUDA, up to batch 4
    checkpointing: Switch = "auto"  # compute activations again instead of keeping them. auto: from 512 px on
    accumulate: int = 1  # parts that a batch is computed in, one after the other; less memory, the same result

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ConfigError(f"speed.accumulate is {self.accumulate}, expected at least 1.")


PLAIN = ExecutionConfig(
    precision="fp32",
    batched=False,
    fused=False,
    channels_last="off",
    compile="off",
    cuda_graphs="off",
    checkpointing="off",
)  # the algorithm as it is written in the paper; every faster setting is tested against it


@dataclass(frozen=True, slots=True)
class Execution:
    """A ExecutionConfig with nothing left open."""

    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    batched: bool
    fused: bool
    channels_last: bool
    compile: bool
    cuda_graphs: bool
    checkpointing: bool
    accumulate: int

    @property
    def autocast(self) -> torch.dtype | None:
        """What convolutions compute in; None for float32."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)

    def __str__(self) -> str:
        names: list[str] = [self.precision]
        names += [name for name in ("channels_last", "compile", "cuda_graphs", "checkpointing") if getattr(self, name)]
        return ", ".join(names + ([f"accumulate {self.accumulate}"] if self.accumulate > 1 else []))


def resolve(
    config: ExecutionConfig, device: torch.device, *, size: int, batch: int, world_size: int = 1, penalty: bool = False
) -> Execution:
    """What `config` means on `device` for `batch` crops of `size` px in this process.

    `world_size` is the number of processes; `penalty` says that the objective has a gradient penalty, whose second
    derivative torch.compile does not have. Raises ConfigError for what the device or the other settings rule out.
    """
    cuda = device.type == "cuda"
    checkpointing = _on(config.checkpointing, auto=size >= CHECKPOINT_FROM)
    reasons = {  # why a recording cannot be made
        "it needs a CUDA device": not cuda,
        "several processes exchange gradients in between": world_size > 1,
        "a batch in parts adds gradients up": config.accumulate > 1,
        "checkpointing decides anew what to compute": checkpointing,
        "a gradient penalty changes the graph": penalty,
        "precision fp16 may skip steps": config.precision == "fp16",
    }
    hindered = [reason for reason, applies in reasons.items() if applies]
    if config.cuda_graphs == "on" and hindered:
        raise ConfigError(f"speed.cuda_graphs is 'on', but {hindered[0]}; set it to 'auto' or 'off'.")
    if config.compile == "on" and penalty:
        raise ConfigError("speed.compile is 'on', but objective.gan=wgangp needs a second derivative; set it to 'off'.")
    if batch % config.accumulate:
        raise ConfigError(
            f"speed.accumulate is {config.accumulate}, but {batch} pairs cannot be cut into so many equal parts."
        )
    return Execution(
        precision=_precision(config.precision, device),
        batched=config.batched,
        fused=config.fused,
        channels_last=_on(config.channels_last, auto=cuda),
        compile=_on(config.compile, auto=cuda and not penalty and _can_compile()),
        cuda_graphs=_on(config.cuda_graphs, auto=not hindered and batch <= 4),
        checkpointing=checkpointing,
        accumulate=config.accumulate,
    )


def prepare_network(networks: nn.Module, speed: Execution) -> None:
    """Set the memory layout, the norms and the compilation of a network as `speed` says; its weights stay the same."""
    if speed.channels_last:
        networks.to(memory_format=torch.channels_last)
    for module in networks.modules():
        if isinstance(module, InstanceNorm):
            module.spelled_out = speed.compile or (speed.channels_last and next(networks.parameters()).is_cuda)
        if isinstance(module, ResnetGenerator):
            module.recompute = speed.checkpointing
    if speed.compile:
        networks.compile(dynamic=False)


def allow_tf32(speed: Execution) -> None:
    """Let CUDA multiply float32 in TF32 (10 bits of mantissa) when asked to, and not otherwise; torch-wide."""
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = speed.precision != "fp32"
        torch.backends.cudnn.allow_tf32 = speed.precision != "fp32"
        torch.backends.cudnn.benchmark = True  # every shape of a run comes again


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
