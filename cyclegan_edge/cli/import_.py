"""`cyclegan-edge import`: a generator that something else trained, as one file that this package exports."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from cyclegan_edge.cli.console import console

IMPORTED = Path("models-imported")

_ANY_GENERATOR = re.compile(r"(?:\w*?_)?net_?G(?:_?(A2B|AtoB|A|B2A|BtoA|B))?", re.IGNORECASE)


def import_(
    file: Annotated[Path, typer.Argument(help="A .pth, .pt or .safetensors file, or a run.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="models-imported/NAME.safetensors")
    ] = None,
    name: Annotated[str | None, typer.Option(help="NAME.", show_default="what the file or its folder says")] = None,
    direction: Annotated[
        Literal["ab", "ba"], typer.Option(help="Of a file with two generators, ab: the one that turns A into B.")
    ] = "ab",
    size: Annotated[
        int | None, typer.Option(help="Pixels of the pictures it was trained on.", show_default="256; a U-Net's own")
    ] = None,
    domains: Annotated[
        tuple[str, str] | None, typer.Option(help="What A and B are: --domains horse zebra.", show_default=False)
    ] = None,
    norm: Annotated[
        Literal["instance", "batch", "none"] | None,
        typer.Option(
            help="instance: from each picture, also for a batch norm; batch: running statistics; none.",
            show_default="what the weights say",
        ),
    ] = None,
    padding: Annotated[
        Literal["reflect", "replicate"] | None,
        typer.Option(help="Of the residual blocks (padding_type), which weights do not say.", show_default="reflect"),
    ] = None,
) -> None:
    """Read the generator in FILE, whichever known implementation trained it, and write it as one safe file."""
    from cyclegan_edge.cli.export import directed, find_source
    from cyclegan_edge.export.weights.open import open_generator, write_imported

    run_name, source = find_source(file)
    trained = open_generator(source, direction, size=size, domains=domains, norm=norm, padding=padding)
    target = out or IMPORTED / f"{name or directed(run_name, direction)}.safetensors"
    write_imported(trained, target)
    weights = sum(weight.numel() for weight in trained.generator.state_dict().values())
    about = trained.description or "a run of this package"
    console.print(f"{source}: {about}; {weights / 1e6:.1f} million weights.", markup=False)
    console.print(f"The generator is {target}, {trained.size} px, direction {trained.direction}.", markup=False)
    console.print(f"\nNext: [bold]cyclegan-edge export {target}[/bold]")


def model_name(file: Path) -> str:
    """What to call the generator in `file`: its name, or its folder's where the name is that of any generator.

    checkpoints/horse2zebra/latest_net_G_A.pth is horse2zebra, and latest_net_G_B.pth is horse2zebra-ba.
    """
    match = _ANY_GENERATOR.fullmatch(file.stem)
    folder = file.resolve().parent.name
    if not match or not folder:
        return file.stem
    return f"{folder}-ba" if (match[1] or "").upper().startswith("B") else folder
