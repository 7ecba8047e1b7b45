"""benchmarks/train.py with tiny networks in this process: what it computes and writes, not what it measures."""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from cyclegan_edge.train.networks import InstanceNorm

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
STAND_IN = Path(__file__).parent / "data" / "reference_stand_in"
MODULES = ("machine", "train", "train_profile", "train_steps", "models", "options")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A module of benchmarks/, whose names other packages have too: gone again after the test."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in MODULES}
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in [name for name in sys.modules if name.split(".")[0] in MODULES]:
        del sys.modules[name]
    sys.modules.update(before)


def pair(batch: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    a, b = (torch.rand(batch, 3, size, size, generator=random) * 2 - 1 for _ in "ab")
    return a, b


def test_every_way_is_measured_and_reported_on_the_cpu(
    load: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load("train")
    case = train.Case(32, 2, width=4, blocks=6)
    wanted = [train.Job(case, "plain"), train.Job(case, "reference"), train.Job(case, "ours, not compiled", True)]
    monkeypatch.setattr(train, "jobs", lambda kind, reference: wanted)
    monkeypatch.setattr(train, "measure_alone", train.measure)  # in this process
    monkeypatch.setattr(train, "matmul_rate", lambda *given: 1e12)
    monkeypatch.setattr(train, "default_device", lambda: torch.device("cpu"))
    words = ["--reference", STAND_IN, "--rounds", 1, "--steps", 1, "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])

    train.main()

    (report,) = tmp_path.glob("train-*.md")
    text = report.read_text(encoding="utf-8")
    assert "Not measured" not in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| plain", "| reference", "| ours"))]
    assert [row[0] for row in rows] == ["| plain", "| reference", "| ours, not compiled"]
    assert rows[0][2] == rows[1][3] == "1.00", "each is once as fast as itself"
    assert "### Where the time goes: ours, not compiled, batch 2" in text
    found = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))["found"]
    assert all(it["seconds"] > 0 and it["gib"] > 0 for it in found)
    spent = found[2]["profile"]["milliseconds"]
    assert {"convolution", "InstanceNorm", "padding", "optimiser", "gaps"} <= spent.keys()
    assert spent["convolution"] > 0


def test_the_rate_of_a_matrix_product_is_a_rate(load: Callable[[str], Any]) -> None:
    assert load("train").matmul_rate(torch.device("cpu"), torch.float32, side=32) > 0


def test_a_report_that_is_cut_short_keeps_what_was_measured(load: Callable[[str], Any]) -> None:
    train = load("train")
    case, kept = train.Case(32, 1, width=4, blocks=6), []

    def measured(job: Any) -> Any:
        if job.way == "ours":
            raise KeyboardInterrupt
        return train.Done(job, 0.5, 1.0)

    with pytest.raises(KeyboardInterrupt):
        train.run(
            [train.Job(case, "plain"), train.Job(case, "ours")],
            measured,
            lambda found: kept.append(train.report(found, "# Head\n", rate=1e12)),
            until=time.monotonic() + 1e6,
        )

    assert "| plain | 2.000 | 1.00 |" in kept[-1]
    assert len(kept) == 2, "before the first and after each"


def test_what_fails_or_comes_too_late_is_named_in_the_report(load: Callable[[str], Any]) -> None:
    train = load("train")
    case = train.Case(32, 1, width=4, blocks=4)

    failed = train.measure_alone(train.Job(case, "reference"), 1, STAND_IN)
    late = train.run([train.Job(case, "ours")], lambda job: failed, lambda found: None, until=0.0)
    text = train.report([failed, *late], "# Head\n", rate=1e12)

    assert "Not measured, reference: ValueError: the reference has generators of 6 and of 9 blocks, not of 4" in text
    assert "Not measured, ours: the time was over" in text


def test_a_card_is_asked_for_what_matters_most_first(load: Callable[[str], Any]) -> None:
    train = load("train")

    jobs = train.jobs("cuda", reference=True)

    assert [(job.case.batch, job.way) for job in jobs[:4]] == [
        (1, "plain"), (1, "reference"), (1, "ours, not compiled"), (1, "ours"),
    ]  # fmt: skip
    assert [job.way for job in jobs if job.profile] == ["ours", "ours, not compiled"]
    assert len(jobs) == 11
    assert all(job.way in load("train_steps").WAYS for job in jobs)
    assert not any(job.way == "reference" for job in train.jobs("cuda", reference=False))


def test_the_work_of_a_step_is_counted_without_doing_it(load: Callable[[str], Any]) -> None:
    train = load("train")

    assert train.flops(train.Case(256, 8)) == pytest.approx(8 * 1.879e12, rel=1e-3)


def test_the_reference_gets_its_own_options_and_our_pictures(load: Callable[[str], Any]) -> None:
    steps = load("train_steps")
    real_a, real_b = pair(2, 32)

    step = steps.step_of(steps.Case(32, 2, width=5, blocks=9), "reference", torch.device("cpu"), STAND_IN)
    step(real_a, real_b)

    model = sys.modules["models"].LAST
    assert vars(model.options) == {
        "dataroot": "none", "model": "cycle_gan", "netG": "resnet_9blocks", "ngf": 5, "ndf": 5, "batch_size": 2,
        "crop_size": 32, "gpu_ids": [], "checkpoints_dir": model.options.checkpoints_dir, "device": torch.device("cpu"),
    }  # fmt: skip
    assert model.done == ["setup", "set_input", "optimize_parameters"]
    assert model.real_a is real_a
    assert model.real_b is real_b


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_norms_by_sums_give_the_pictures_and_gradients_of_ours(load: Callable[[str], Any], offset: float) -> None:
    x, up = torch.randn(2, 3, 16, 20, dtype=torch.float32), torch.randn(2, 3, 16, 20)

    def of(norm: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        given = (x + offset).requires_grad_()
        result = norm(given)
        result.backward(up)
        assert given.grad is not None
        return result.detach(), given.grad

    ours, expected = of(load("train_steps").SummedNorm(3)), of(InstanceNorm(3))

    for found, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_dgrad_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "convolution"),
        ("void cudnn::ops::nchwToNhwcKernel<__half, __half, float, false, true>", "layout conversion"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1, true>", "InstanceNorm"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::WelfordOps<...>>>",
         "InstanceNorm"),
        ("void at::native::(anonymous namespace)::reflection_pad2d_backward_out_kernel<float>", "padding"),
        ("void at::native::multi_tensor_apply_kernel<..., FusedAdamMathFunctor<float, 4>>", "optimiser"),
        ("Memcpy DtoD (Device -> Device)", "copies and casts"),
        ("triton_red_fused_convolution_var_mean_4", "InstanceNorm"),
        ("triton_poi_fused_reflection_pad2d_relu_rsqrt_sub_var_mean_7", "InstanceNorm + padding"),
        ("triton_poi_fused_convolution_tanh_9", "other arithmetic"),
        ("triton_tem_fused_convolution_3", "convolution"),
        ("aten::convolution_backward", "convolution"),
        ("aten::native_batch_norm_backward", "InstanceNorm"),
    ],
)  # fmt: skip
def test_a_kernel_is_known_by_its_name(load: Callable[[str], Any], name: str, kind: str) -> None:
    assert load("train_profile").class_of(name) == kind


def test_time_in_which_several_kernels_run_counts_once(load: Callable[[str], Any]) -> None:
    assert load("train_profile").covered([(5.0, 6.0), (0.0, 3.0), (1.0, 2.0), (2.5, 4.0)]) == 5.0


def test_kernels_of_a_gpu_are_added_up_by_class_with_the_gaps_between_them(load: Callable[[str], Any]) -> None:
    profile = load("train_profile")
    cpu, cuda = profile.DeviceType.CPU, profile.DeviceType.CUDA

    def event(name: str, start: float, end: float, *, on: Any = cuda, named: bool = False) -> SimpleNamespace:
        span = SimpleNamespace(start=start, end=end)
        return SimpleNamespace(name=name, time_range=span, device_type=on, is_user_annotation=named)

    events = [
        event("cudaLaunchKernel", 0, 900, on=cpu),
        event("sm90_xmma_fprop_implicit_gemm", 1000, 3000),
        event("sm90_xmma_fprop_implicit_gemm", 3000, 5000),
        event("triton_red_fused_var_mean_0", 4500, 6000),
        event("Optimizer.step#Adam.step", 6000, 9000, named=True),
        event("multi_tensor_apply_kernel<FusedAdamMathFunctor>", 8000, 9000),
    ]

    found = profile.summary(events, cuda=True, steps=2, most=1)

    assert found.milliseconds == {"convolution": 2.0, "gaps": 1.0, "InstanceNorm": 0.75, "optimiser": 0.5}
    assert found.as_dict()["kernels"] == [{"name": "sm90_xmma_fprop_implicit_gemm", "milliseconds": 2.0, "calls": 1.0}]
