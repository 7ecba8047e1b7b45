"""`cyclegan-edge import`: a generator that something else trained, as one file that this package exports."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from cyclegan_edge.cli.console import console
from cyclegan_edge.cli.options import DirectionOption, DomainsOption

IMPORTED = Path("models-imported")


def import_(
    file: Annotated[Path, typer.Argument(help="A .pth, .pt or .safetensors file, or a run.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="models-imported/NAME.safetensors, named as FILE")
    ] = None,
    direction: DirectionOption = "ab",
    size: Annotated[
        int | None, typer.Option(help="Pixels of the pictures it was trained on.", show_default="256; a U-Net's own")
    ] = None,
    domains: DomainsOption = None,
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
    from cyclegan_edge.export.weights.open import open_generator, write_imported
    from cyclegan_edge.train.data.layout import split_domains
    from cyclegan_edge.train.runs import resolve_checkpoint, with_direction

    run_name, source = resolve_checkpoint(file)
    names = split_domains(domains) if domains else None
    trained = open_generator(source, direction, size=size, domains=names, norm=norm, padding=padding)
    target = out or IMPORTED / f"{with_direction(run_name, direction)}.safetensors"
    write_imported(trained, target)
    weights = sum(weight.numel() for weight in trained.generator.state_dict().values())
    about = trained.description or "a run of this package"
    console.print(f"{source}: {about}; {weights / 1e6:.1f} million weights.", markup=False)
    if trained.note:
        console.print(trained.note, markup=False)
    console.print(f"The generator is {target}, {trained.size} px, direction {trained.direction}.", markup=False)
    console.print(f"\nNext: [bold]cyclegan-edge export {escape(str(target))}[/bold]")
