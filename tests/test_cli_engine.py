"""Engines as a person asks for them, on a TensorRT that records and a network that inverts colours."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cyclegan_edge.backends.tensorrt.explain import Layer
from cyclegan_edge.backends.tensorrt.library import this_device
from cyclegan_edge.backends.tensorrt.run import TensorrtBackend
from cyclegan_edge.bundle import Artifact, read_bundle, write_manifest
from cyclegan_edge.cli import app, engine
from cyclegan_edge.cli.engine import layer_table
from cyclegan_edge.contract import Translate
from cyclegan_edge.errors import BundleError, ConfigError, EngineError, ExportError
from cyclegan_edge.export.formats.tensorrt import engine_shapes
from cyclegan_edge.files import sha256
from cyclegan_edge.images import read_image, write_image


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def someone(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sits at a terminal and gives this answer."""

    def answers(answer: str) -> None:
        monkeypatch.setattr(engine, "_someone_is_there", lambda: True)
        monkeypatch.setattr("typer.confirm", lambda question: {"y": True, "n": False}[answer])

    return answers


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def built_elsewhere(folder: Path, **changed: Any) -> Artifact:
    """Give the bundle an engine of another machine."""
    path = folder / "generator-fp16.engine"
    path.write_bytes(b"of another machine")
    foreign = replace(this_device(), gpu="Other", compute_capability="7.5")
    artifact = Artifact(
        file=path.name,
        format="tensorrt",
        precision="fp16",
        sha256=sha256(path),
        shapes=((1, 16, 16), (1, 32, 64), (2, 64, 64)),
        **{"device": foreign, **changed},
    )
    write_manifest(folder, read_bundle(folder).with_artifact(artifact).manifest)
    return artifact


def engine_in(folder: Path) -> Artifact:
    found = read_bundle(folder).artifact("tensorrt", "fp16")
    assert found is not None
    return found


def test_an_engine_is_built_as_asked_and_its_entry_says_so(fake: Any, tiny_bundle: Path) -> None:
    sizes = ["--engine-size", "64x48", "--engine-size", "32x32", "--engine-size", "96x32"]
    options = ["--max-batch", 4, "--workspace", 256, "--level", 5]

    said = run("export", tiny_bundle, "--fp16", *sizes, *options)

    made = engine_in(tiny_bundle)
    assert made.shapes == ((1, 32, 32), (1, 48, 64), (4, 48, 96))
    assert made.parity is not None
    assert (made.parity.max_levels, made.parity.images) == (0, 8)
    assert made.device == this_device()
    assert fake.called("IBuilderConfig.set_memory_pool_limit") == [(fake.module.MemoryPoolType.WORKSPACE, 256 << 20)]
    assert fake.called("IBuilderConfig.builder_optimization_level =") == [(5,)]
    assert "generator-fp16.engine: " in said
    plan = (tiny_bundle / made.file).read_bytes()
    assert plan.startswith(b"plan")
    assert made.bytes == len(plan)
    assert list(Path("cache/cyclegan-edge/tensorrt").iterdir()), "timings are kept for the next build"


def test_without_tensorrt_it_says_how_to_finish_on_the_device(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)

    said = run("export", tiny_bundle, "--fp16")

    assert "No engine was built: TensorRT is not installed" in said
    assert f"cyclegan-edge export {tiny_bundle} --fp16" in said


def test_an_engine_is_built_around_the_models_size_unless_told(fake: Any, tiny_bundle: Path) -> None:
    run("export", tiny_bundle, "--fp16")

    assert engine_in(tiny_bundle).shapes == ((1, 16, 16), (1, 32, 56), (1, 64, 112))
    assert fake.called("IBuilderConfig.set_memory_pool_limit") == [(fake.module.MemoryPoolType.WORKSPACE, 1 << 30)]


def test_sizes_are_those_that_the_model_takes(tiny_bundle: Path) -> None:
    model = replace(read_bundle(tiny_bundle).manifest, multiple=256)

    assert engine_shapes(model, [(512, 256)], 3) == ((1, 512, 256), (1, 512, 256), (3, 512, 256))
    with pytest.raises(ConfigError, match="engine-size is 320x512, but the model takes multiples of 256; try 256x512"):
        engine_shapes(model, [(256, 256), (512, 320)])


def test_tensorrt_8_builds_nothing(fake: Any, tiny_bundle: Path) -> None:
    fake.module.__version__ = "8.6.1"

    with pytest.raises(EngineError, match=r"TensorRT 8.6.1 is too old, expected 10.3 or newer; use JetPack 6.1"):
        run("export", tiny_bundle, "--fp16")

    assert fake.calls == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--fp16", "--engine-size", "64"], "engine-size is '64', expected WIDTHxHEIGHT"),
        (["--fp16", "--engine-size", "66x50"], "engine-size is 66x50, but the model takes multiples of 4; try 64x48"),
        (["--max-batch", "2"], "none is to be built; add --fp16"),
        (["--explain"], "holds no engine to explain; build one with"),
    ],
)
def test_a_wrong_wish_is_a_sentence_before_anything_is_built(
    fake: Any, tiny_bundle: Path, options: list[str], sentence: str
) -> None:
    with pytest.raises((ConfigError, BundleError), match=sentence):
        run("export", tiny_bundle, *options)

    assert fake.called("Builder.build_serialized_network") == []


@pytest.mark.parametrize("options", [["--level", "6"], ["--max-batch", "0"], ["--workspace", "0"]])
def test_a_number_out_of_range_is_a_usage_error(tiny_bundle: Path, options: list[str]) -> None:
    assert CliRunner().invoke(app, ["export", str(tiny_bundle), "--fp16", *options]).exit_code == 2


def test_an_engine_that_gives_other_pictures_leaves_the_old_one(
    fake: Any, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = built_elsewhere(tiny_bundle)
    monkeypatch.setattr(
        "cyclegan_edge.backends.tensorrt.run.Slot.finish", lambda slot: np.zeros((1, 32, 32, 3), np.uint8)
    )

    with pytest.raises(ExportError, match=r"1 of 1 failed, generator-fp16.engine; the reasons are above"):
        run("export", tiny_bundle, "--fp16")

    assert engine_in(tiny_bundle) == old
    assert (tiny_bundle / old.file).read_bytes() == b"of another machine"


def test_the_layer_table_is_printed(fake: Any, tiny_bundle: Path) -> None:
    said = run("export", tiny_bundle, "--fp16", "--explain")

    assert said.index("stem") < said.index("reformat"), "the costliest first"
    assert "CaskConvolution" in said
    assert "66.7%" in said
    assert "0.750" in said
    assert "Mean of 50 runs" in said


def test_a_layers_types_are_short_and_its_share_is_of_the_sum() -> None:
    long = "Channel major FP16 format where channel % 8 == 0"
    layers = (
        Layer(name="[a]", kind="conv", inputs=(long, "Half"), outputs=("odd",), tactic="", milliseconds=3.0),
        Layer(name="b", kind="", inputs=(), outputs=(), tactic="", milliseconds=None),
        Layer(name="c", kind="", inputs=(), outputs=(), tactic="", milliseconds=1.0),
    )

    columns = [list(column.cells) for column in layer_table(layers).columns]

    assert columns[0] == [r"\[a]", "c", "b"]
    assert columns[2] == ["FP16, Half", "", ""]
    assert columns[3] == ["odd", "", ""]
    assert columns[5:] == [["3.000", "1.000", ""], ["75.0%", "25.0%", ""]]


def watch(folder: Path, *options: object) -> str:
    return run("webcam", folder, "--source", "synthetic", "--headless", "--frames", 2, *options)


def picture(path: Path) -> Path:
    write_image(path, np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8))
    return path


@pytest.mark.parametrize("name", ["auto", "tensorrt"])
@pytest.mark.parametrize("command", ["webcam", "translate"])
def test_an_engine_of_another_machine_is_rebuilt_for_whoever_says_yes(
    fake: Any, tiny_bundle: Path, tmp_path: Path, name: str, command: str
) -> None:
    old = built_elsewhere(tiny_bundle)

    options = ["--engine", name, "--yes"]
    if command == "webcam":
        said = watch(tiny_bundle, *options)
    else:
        said = run("translate", tiny_bundle, picture(tmp_path / "a.png"), *options)

    assert "generator-fp16.engine was built for Other (7.5), " in said
    assert "tensorrt 10.3.0 fp16 on Fake Orin" in said
    made = engine_in(tiny_bundle)
    assert (made.shapes, made.device) == (old.shapes, this_device())
    assert (b"of another machine",) not in fake.called("Runtime.deserialize_cuda_engine")


def test_it_asks_once_at_a_terminal(fake: Any, tiny_bundle: Path, someone: Callable[[str], None]) -> None:
    built_elsewhere(tiny_bundle)

    someone("n")
    with pytest.raises(EngineError, match=r"was built for Other .* rebuild it here with `cyclegan-edge export"):
        watch(tiny_bundle, "--engine", "tensorrt")
    assert "tensorrt was passed over: generator-fp16.engine was built for Other" in watch(tiny_bundle)
    someone("y")
    assert "tensorrt 10.3.0 fp16 on Fake Orin" in watch(tiny_bundle)
    assert "was built for" not in watch(tiny_bundle)


def test_without_a_terminal_the_sentence_is_the_error(fake: Any, tiny_bundle: Path) -> None:
    built_elsewhere(tiny_bundle)

    with pytest.raises(EngineError, match=r"was built for Other .* rebuild it here with `cyclegan-edge export"):
        watch(tiny_bundle, "--engine", "tensorrt")
    assert "tensorrt was passed over: generator-fp16.engine was built for Other" in watch(tiny_bundle)
    assert fake.called("Builder.build_serialized_network") == []


def test_where_there_is_no_tensorrt_nobody_is_asked(
    fake: Any, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built_elsewhere(tiny_bundle)
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    said = watch(tiny_bundle, "--yes")

    assert "tensorrt was passed over: TensorRT is not installed" in said
    assert "was built for" not in said


def test_a_folder_goes_through_several_at_a_time_and_what_does_not_fit_is_named(
    fake: Any,
    tiny_bundle: Path,
    tiny_translated: Translate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run("export", tiny_bundle, "--fp16")
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for number in range(8):
        side = 256 if number in {2, 7} else 32
        write_image(folder / f"{number}.png", rng.integers(0, 256, (32, side, 3), dtype=np.uint8))
    (folder / "4.png").write_text("no picture")

    def one_after_the_other(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(TensorrtBackend, "run", one_after_the_other)

    said = run("translate", tiny_bundle, folder, "--fit", "native", "--out", tmp_path / "out", code=1)

    assert "Translating with tensorrt 10.3.0 fp16" in said
    results = sorted((tmp_path / "out").glob("*.png"))
    assert [path.name for path in results] == [f"{it}.png" for it in (0, 1, 3, 5, 6)]
    for path in results:
        np.testing.assert_array_equal(read_image(path), tiny_translated(read_image(folder / path.name)[None])[0])
    for number in (2, 7):
        assert f"failed {folder / f'{number}.png'}, The engine was built for batches of (N, H, W) from" in said
    assert "5 of 8 files translated, 0 were done before, 3 failed" in said
