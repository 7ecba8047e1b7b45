"""`cyclegan-edge data`: make data sets, look at them, pack them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from cyclegan_edge.cli.console import console, counting, print_some, track, warn
from cyclegan_edge.cli.options import DomainsOption

if TYPE_CHECKING:
    from cyclegan_edge.train.data.check import DataCheck, FolderCheck

data = typer.Typer(help="Make data sets, look at them, pack them.", no_args_is_help=True)


Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder that holds trainA/, trainB/, perhaps testA/, testB/.")
]


@data.command()
def check(
    folder: Folder,
    domains: DomainsOption = None,
    size: Annotated[int, typer.Option(help="Side of the training crops in pixels, to find smaller pictures.")] = 256,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write everything to this file.", show_default=False)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are problems too.")] = False,
) -> None:
    """Count and measure the pictures of DIR and name what should be fixed: damaged files, leaks, duplicates.

    The exit code is 1 when something should be fixed.
    """
    from cyclegan_edge.files import check_writable
    from cyclegan_edge.train.data.check import check as look
    from cyclegan_edge.train.data.check import write_json

    if json:
        check_writable(json)
    with counting("reading") as on_progress:
        found = look(folder, domains=domains or "", size=size, workers=_cores(), on_progress=on_progress)
    console.print(_table(found))
    print_some(found.problems, "[red]fix:[/red]")
    print_some(found.warnings, "[yellow]warning:[/yellow]")
    if json:
        write_json(found, json)
        console.print(f"All of it is in [bold]{escape(str(json))}[/bold].")
    if found.duplicates or found.leaks or any(folder.corrupt for folder in found.folders):
        console.print(
            f"Damaged and double files are moved aside by [bold]cyclegan-edge data fix {escape(str(folder))}[/bold]."
        )
    if found.problems or (strict and found.warnings):
        raise typer.Exit(1)
    console.print("Nothing needs fixing.")


@data.command()
def fix(folder: Folder, domains: DomainsOption = None) -> None:
    """Move the damaged files of DIR, its duplicates, and test pictures that are trained on, to DIR/aside.

    Nothing is deleted. A picture in both domains stays: only you know where it belongs.
    """
    from cyclegan_edge.train.data.check import check as look
    from cyclegan_edge.train.data.fix import fix as move
    from cyclegan_edge.train.data.layout import ASIDE

    with counting("reading") as on_progress:
        found = look(folder, domains=domains or "", workers=_cores(), on_progress=on_progress)
    moved = move(found)
    for one in moved:
        console.print(f"{one.file.relative_to(folder)} {one.why}", markup=False)
    for group in found.leaks:
        left = [str(path.relative_to(folder)) for path in group if path.exists()]
        if len(left) > 1:
            warn(f"{', '.join(left)} are one picture in both domains; remove it from one of them.")
    where = f" to [bold]{escape(str(folder / ASIDE))}[/bold]" if moved else ""
    console.print(f"{len(moved)} files were moved{where}.")


@data.command()
def pack(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder to write; must not hold anything else.")],
    domains: DomainsOption = None,
    shard_mb: Annotated[int, typer.Option(help="MiB a shard holds at most.")] = 256,
) -> None:
    """Pack the pictures of DIR into WebDataset shards, for data that is read over a network or larger than a disk."""
    from cyclegan_edge.train.data.pack import pack as write

    with counting("packing") as on_progress:
        packed = write(folder, out, domains=domains or "", shard_mb=shard_mb, workers=_cores(), on_progress=on_progress)
    print_some([reason for _, reason in packed.skipped], "[yellow]left out:[/yellow]")
    size = sum(shard.bytes for shard in packed.shards)
    of_a, of_b = (sum(shard.counts[domain] for shard in packed.shards) for domain in ("trainA", "trainB"))
    console.print(
        f"{of_a} pictures of A and {of_b} of B, {size / (1 << 20):.1f} MiB, are in "
        f"[bold]{escape(str(out / packed.pattern))}[/bold]."
    )


@data.command()
def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write; must not hold anything else.")],
    train: Annotated[int, typer.Option(help="Training pictures of each season.")] = 200,
    test: Annotated[int, typer.Option(help="Test pictures of each season.")] = 40,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
) -> None:
    """Render landscapes in summer (A) and winter (B), unpaired, with the true winter of each test picture in truthB."""
    from cyclegan_edge.scenes import write_dataset

    rendered = write_dataset(out, train=train, test=test, size=size, seed=seed)
    for _ in track(rendered, "rendering", total=2 * train + 3 * test):
        pass
    place = escape(str(out))
    console.print(
        f"{train} + {train} training and {test} + {test} test pictures of {size} px are in [bold]{place}[/bold].\n\n"
        f"Next: [bold]cyclegan-edge train {place}[/bold]"
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _table(found: "DataCheck") -> Table:
    """A column for each folder, so that it fits into 80 characters."""
    table = Table("", *(Column(folder.name, justify="right") for folder in found.folders))
    measures = ("readable", "corrupt", "smallest", "median", "largest")
    oddities = (f"below {found.size} px", "greyscale", "transparent")
    for row in zip((*measures, *oddities), *map(_column, found.folders), strict=True):
        table.add_row(*row)
    return table


def _column(folder: "FolderCheck") -> list[str]:
    counts = len(folder.pictures), len(folder.corrupt)
    sizes = [f"{width}x{height}" for width, height in folder.sizes] or ["-"] * 3
    oddities = folder.small, len(folder.grey), len(folder.transparent)
    return [*map(str, counts), *sizes, *map(str, oddities)]
