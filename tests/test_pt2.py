"""Native code from torch: it gives PyTorch's picture at every size, and only what was compiled here is ever run."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from cyclegan_edge.backends import open_backend, pt2
from cyclegan_edge.backends.pt2 import Pt2Backend, this_machine
from cyclegan_edge.bundle import MANIFEST, Bundle, read_bundle, write_manifest
from cyclegan_edge.cli import app
from cyclegan_edge.errors import BundleError, ConfigError, EngineError, ExportError
from cyclegan_edge.export.proof import landscapes
from cyclegan_edge.export.to_onnx import picture_generator, reference
from cyclegan_edge.export.to_pt2 import precisions, with_pt2, write_pt2
from cyclegan_edge.export.verify import BOUNDS, measure, pairs_of
from cyclegan_edge.train.networks import GeneratorConfig, ResnetGenerator, new_generator

FILE = "generator-fp32.pt2"


def network() -> nn.Module:
    """As little as has every kind of kernel: compiling takes a minute for the real one."""
    torch.manual_seed(0)
    return nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 3, 3), nn.InstanceNorm2d(3), nn.Tanh()).eval()


@pytest.fixture(scope="module")
def compiled(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with native code in `small`, and the cache of the user who compiled it in `cache`."""
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    home = tmp_path_factory.mktemp("compiled")
    folder = shutil.copytree(exported, home / "small")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patched.setattr("torch._inductor.config.aot_inductor.compile_wrapper_opt_level", "O0")  # it compiles sooner
        bundle = read_bundle(folder)
        made = with_pt2(bundle, network(), "fp32", pairs_of(reference(network()), landscapes(bundle)))
    write_manifest(folder, made.manifest)
    return home


@pytest.fixture
def bundle(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(compiled / "cache"))
    return read_bundle(shutil.copytree(compiled / "small", tmp_path / "small"))


def changed(bundle: Bundle, **compiled_for: Any) -> Bundle:
    manifest = json.loads((bundle.folder / MANIFEST).read_text())
    manifest["artifacts"][-1]["compiled_for"] |= compiled_for
    (bundle.folder / MANIFEST).write_text(json.dumps(manifest))
    return read_bundle(bundle.folder)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 40), (1, 100, 36), (1, 256, 340)])
def test_the_code_gives_pytorch_s_picture_within_its_bound_at_any_size(
    bundle: Bundle, shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

    found = Pt2Backend(bundle, threads=1).run(images)

    expected = reference(network())(images)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert np.ptp(expected) > 100
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= BOUNDS["fp32"].max_levels


def test_the_manifest_says_for_what_it_was_compiled_and_how_it_was_proven(bundle: Bundle) -> None:
    artifact = bundle.artifact("pt2", "fp32")

    assert artifact is not None
    assert artifact.file == FILE
    assert artifact.compiled_for == this_machine("cpu")
    assert artifact.parity is not None
    assert artifact.parity.images == 8


def test_the_backend_says_what_runs_where(bundle: Bundle) -> None:
    backend = Pt2Backend(bundle, threads=1)

    assert backend.name == f"pt2 torch {torch.__version__} fp32"
    assert backend.device == "CPU, 1 threads"


def test_torch_s_threads_stay_as_they_are_unless_asked_for(bundle: Bundle) -> None:
    before = torch.get_num_threads()

    Pt2Backend(bundle)

    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"torch": "2.0.0"}, r"was compiled for .*, torch 2\.0\.0, .*, but this is .*; compile it here with"),
        ({"processor": "Cray-1, VECTOR"}, r"was compiled for Cray-1, VECTOR, torch .*, but this is "),
        ({"platform": "Linux-vax"}, r"was compiled for .*, Linux-vax, but this is "),
    ],
)
def test_what_was_compiled_for_another_machine_is_refused(
    entries: dict[str, str], sentence: str, bundle: Bundle
) -> None:
    with pytest.raises(EngineError, match=sentence):
        Pt2Backend(changed(bundle, **entries))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_code_for_cuda_is_refused_without_it(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="finds no CUDA device here, for which this was compiled"):
        Pt2Backend(changed(bundle, device="cuda"))


def test_a_copy_that_was_not_compiled_here_is_never_opened(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another user"))
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda *_, **__: pytest.fail("it was opened"))

    with pytest.raises(EngineError, match=r"is a program that was not compiled by you on this machine, so it is not"):
        Pt2Backend(bundle)


def test_a_changed_file_is_refused_by_its_hash(bundle: Bundle) -> None:
    with (bundle.folder / FILE).open("ab") as code:
        code.write(b"\0")

    with pytest.raises(BundleError, match=r"generator-fp32\.pt2 is not the file that was exported"):
        Pt2Backend(bundle)


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 10, 8, 3), (1, 4, 8, 3), (1, 8, 4100, 3), (1, 8, 8, 4)])
def test_a_shape_it_was_not_compiled_for_is_refused(shape: tuple[int, ...], bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="H and W multiples of 4 from 8 to 4096"):
        Pt2Backend(bundle).run(np.zeros(shape, np.uint8))


def test_auto_takes_it_before_onnxruntime_and_passes_a_foreign_one_over(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)

    taken, _ = open_backend(bundle)
    instead, reasons = open_backend(changed(bundle, processor="Cray-1, VECTOR"))

    assert taken.name.startswith("pt2 ")
    assert instead.name.startswith("onnxruntime ")
    assert any(reason.startswith(f"pt2 was passed over: {FILE} was compiled for Cray-1") for reason in reasons)


def test_a_bundle_without_it_is_told_how_to_get_it(exported: Path) -> None:
    with pytest.raises(BundleError, match="holds no fp32 code for torch; compile it here with `cyclegan-edge export"):
        Pt2Backend(read_bundle(exported))


def test_a_cache_that_cannot_be_written_is_named(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    artifact = bundle.artifact("pt2", "fp32")
    assert artifact is not None

    with pytest.raises(EngineError, match=r"compiled-here cannot be written \(Not a directory\).* set XDG_CACHE_HOME"):
        pt2.trust(artifact)


def test_what_torch_cannot_compile_leaves_nothing(exported: Path, tmp_path: Path) -> None:
    class Undecided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.mean() > 0 else -x

    bundle = read_bundle(shutil.copytree(exported, tmp_path / "small"))

    with pytest.raises(ExportError, match=r"torch .* could not compile the generator \("):
        with_pt2(bundle, Undecided(), "fp32", [])

    assert sorted(path.name for path in bundle.folder.iterdir()) == ["generator-fp32.onnx", MANIFEST]


def test_bfloat16_convolutions_keep_the_picture_above_40_db(generator: ResnetGenerator) -> None:
    module = picture_generator(generator, "bf16")
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))

    parity = measure(
        lambda images: module(torch.from_numpy(images)).detach().numpy(),
        pairs_of(reference(generator), pictures),
        bound=BOUNDS["bf16"],
    )

    assert 40 < parity.psnr_db < 60


def test_a_unet_is_traced_for_the_sides_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = new_generator(GeneratorConfig(kind="unet_128", width=2), 3, 3).eval()
    programs = []

    def traced_only(program: torch.export.ExportedProgram, package_path: str, **_: object) -> None:
        programs.append(program)
        Path(package_path).touch()

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", traced_only)

    write_pt2(generator, tmp_path / "unet.pt2", multiple=128)

    module = programs[0].module()
    for sides in ((256, 640), (384, 256)):
        image = np.random.default_rng(0).integers(0, 256, (1, *sides, 3), dtype=np.uint8)
        np.testing.assert_allclose(module(torch.from_numpy(image)).numpy(), reference(generator)(image), rtol=0, atol=1)
    with pytest.raises(AssertionError, match="Guard failed"):
        module(torch.zeros(1, 256, 448 + 1, 3, dtype=torch.uint8))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_the_cpu_gets_float32_and_bfloat16_when_asked_for() -> None:
    assert precisions(bf16=False) == ("fp32",)
    assert precisions(bf16=True) == ("fp32", "bf16")


def test_a_bundle_is_refused_which_has_no_weights_to_compile(exported: Path) -> None:
    with pytest.raises(ConfigError, match="is a bundle, but --pt2 needs the weights of a run; name that run instead"):
        CliRunner().invoke(app, ["export", str(exported), "--pt2"], catch_exceptions=False)


@pytest.mark.gpu
def test_cuda_code_runs_from_a_graph_at_two_sizes(
    exported: Path, tmp_path: Path, generator: ResnetGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = read_bundle(shutil.copytree(exported, tmp_path / "small"))
    made = with_pt2(bundle, generator, "fp16", pairs_of(reference(generator), landscapes(bundle)))
    backend = Pt2Backend(made, precision="fp16")

    for shape in [(1, 64, 40), (2, 64, 40), (1, 32, 32)]:
        images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        difference = backend.run(images).astype(int) - reference(generator)(images).astype(int)
        assert np.abs(difference).max() <= BOUNDS["fp16"].max_levels
