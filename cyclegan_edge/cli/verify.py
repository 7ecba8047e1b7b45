"""`cyclegan-edge verify`: a bundle, wherever it was copied to, against the pictures that PyTorch made at its export."""

from pathlib import Path
from typing import Annotated

import typer

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.cli.console import console
from cyclegan_edge.cli.verdicts import verdict_table
from cyclegan_edge.contract import Precision


def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of an exported model.")],
    engine: Annotated[
        EngineName | None, typer.Option(help="Only this one, which must run.", show_default="all that run here")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Only this one.", show_default="all")] = None,
) -> None:
    """Check every file of BUNDLE, and compare what the engines here make of its pictures with what PyTorch made.

    It needs no torch. What cannot run here is listed with the reason.

    The exit code is 1 when a file is damaged or an engine is out of bounds.
    """
    from cyclegan_edge.bundle import read_bundle
    from cyclegan_edge.export.verify_bundle import verify_bundle

    content = read_bundle(bundle)
    with verdict_table() as on_verdict:
        for verdict in verify_bundle(content, engine=engine, precision=precision):
            on_verdict(verdict)
    console.print(f"{len(content.manifest.files())} files are as they were exported, and no engine is out of bounds.")
