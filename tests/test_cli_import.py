import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cyclegan_edge.bundle import read_bundle
from cyclegan_edge.cli import app, main
from cyclegan_edge.export.weights.open import open_generator
from cyclegan_edge.train.networks import GeneratorConfig, ResnetGenerator, init_weights
from cyclegan_edge.train.runs import model_name


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """checkpoints/horse2zebra/latest_net_G.pth with the reference's names, as its download script leaves it."""
    monkeypatch.chdir(tmp_path)
    generator = ResnetGenerator(GeneratorConfig(width=4, blocks=1))
    init_weights(generator, torch.Generator().manual_seed(0))
    path = Path("checkpoints/horse2zebra/latest_net_G.pth")
    path.parent.mkdir(parents=True)
    torch.save(generator.state_dict(), path)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_file_is_imported_and_exported(downloaded: Path) -> None:
    said = run("import", downloaded, "--domains", "horse,zebra", "--size", 64)

    imported = Path("models-imported/horse2zebra.safetensors")
    assert f"{downloaded}: ResNet, 1 block, 4 channels, instance norm; 0.0 million weights." in said
    assert f"The generator is {imported}, 64 px, direction ab." in said
    assert f"Next: cyclegan-edge export {imported}" in said

    said = run("export", imported, "--compare", 1)

    manifest = read_bundle(Path("models/horse2zebra")).manifest
    assert "horse2zebra.safetensors: ResNet, 1 block, 4 channels, instance norm." in said
    assert "Direction ab, comparing on 1 rendered landscapes, 64 px." in said
    assert (manifest.size, manifest.multiple, manifest.domains) == (64, 4, ("horse", "zebra"))
    assert manifest.source == open_generator(downloaded).source
    assert manifest.architecture["blocks"] == [16]


def test_what_weights_do_not_say_of_padding_is_said_until_somebody_does(downloaded: Path) -> None:
    remedy = f"reflection is assumed. If the borders of pictures look wrong, type `cyclegan-edge import {downloaded} "

    assert remedy + "--padding replicate`." in run("import", downloaded)
    assert remedy in run("export", downloaded, "--compare", 1)

    for padding in ("reflect", "replicate"):
        assert "assumed" not in run("import", downloaded, "--padding", padding)
        assert "assumed" not in run("export", "models-imported/horse2zebra.safetensors", "--compare", 1)


@pytest.mark.parametrize("words", [["FILE", "--domains", "horse", "zebra"], ["--domains", "horse", "zebra", "FILE"]])
def test_domains_in_two_words_are_told_the_way_with_a_comma(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cyclegan-edge", "import", *words])

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "error: domains is 'horse', expected the names of two domains with a comma, as in summer,winter.\n"
    )


def test_a_downloaded_file_is_exported_at_once(downloaded: Path) -> None:
    said = run("export", downloaded, "--compare", 1)

    assert "latest_net_G.pth: ResNet, 1 block, 4 channels, instance norm." in said
    assert read_bundle(Path("models/horse2zebra")).manifest.size == 256


def test_out_and_direction_are_the_user_s(downloaded: Path) -> None:
    run("import", downloaded, "--direction", "ba")
    run("import", downloaded, "--out", "elsewhere/one.safetensors")

    assert open_generator(Path("models-imported/horse2zebra-ba.safetensors")).direction == "ba"
    assert open_generator(Path("elsewhere/one.safetensors")).direction == "ab"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("horse2zebra/latest_net_G.pth", "horse2zebra"),
        ("horse2zebra/latest_net_G_A.pth", "horse2zebra"),
        ("horse2zebra/200_net_G_B.pth", "horse2zebra-ba"),
        ("output/netG_A2B.pth", "output"),
        ("output/netG_B2A.pth", "output-ba"),
        ("downloads/summer2winter_yosemite.pth", "summer2winter_yosemite"),
    ],
)
def test_a_model_is_called_what_its_file_or_folder_says(file: str, name: str) -> None:
    assert model_name(Path(file)) == name


def test_what_cannot_be_imported_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "D.pth"
    torch.save({"model.0.weight": torch.ones(1)}, path)
    monkeypatch.setattr(sys, "argv", ["cyclegan-edge", "import", str(path)])

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: {path} has no generator of a known architecture: none of 'model.0.weight' fits one;"
    )
    assert said.count("\n") == 1


def test_a_name_that_no_disk_can_hold_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cyclegan-edge", "import", "n" * 300])

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {'n' * 300} cannot be used (File name too long); check")
