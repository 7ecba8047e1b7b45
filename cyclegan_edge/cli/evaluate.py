"""`cyclegan-edge evaluate`: a run, a checkpoint or a bundle in, figures of its quality and their protocol out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cyclegan_edge.cli.console import console, counting
from cyclegan_edge.cli.options import EngineOption, PrecisionOption
from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import ConfigError

if TYPE_CHECKING:
    from cyclegan_edge.train.evaluate.evaluation import Evaluation


def evaluate(
    source: Annotated[
        Path | None, typer.Argument(help="A run, a checkpoint, or a bundle.", show_default="the newest run")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with testA/, testB/, perhaps truthB/.", show_default="the run's data")
    ] = None,
    direction: Annotated[
        Direction | None, typer.Option(help="ab: the one that turns A into B.", show_default="ab, or the bundle's")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="For FID and KID: efficientnet-lite2, or a TorchScript program that you trust.",
            show_default="Inception",
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=2, help="At most this many pictures of each folder.", show_default="all")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the figures are stored.", show_default="in the run or bundle"),
    ] = None,
) -> None:
    """Measure SOURCE on test pictures: FID, KID, the cycle, and PSNR and SSIM where the truth is known."""
    from cyclegan_edge.files import check_writable
    from cyclegan_edge.train.evaluate.candidates import open_candidate
    from cyclegan_edge.train.evaluate.evaluation import evaluate as measure
    from cyclegan_edge.train.evaluate.evaluation import feature_network, write_evaluation
    from cyclegan_edge.train.evaluate.quality import find_sets

    candidate = open_candidate(source, direction=direction, engine=engine, precision=precision)
    folder = data or candidate.data
    if folder is None:
        raise ConfigError("A bundle does not know its pictures; name the folder that holds testA/ with --data.")
    model = candidate.model
    for remark in candidate.remarks:
        console.print(remark, markup=False)
    sets = find_sets(folder, size=candidate.size, direction=model.direction, most=images, domains=candidate.domains)
    console.print(
        f"Evaluating [bold]{escape(model.path)}[/bold], direction {model.direction}, with "
        f"{escape(model.engine)} on {escape(model.device)}: {len(sets.sources)} pictures at {sets.size} px."
    )
    path = out or candidate.stored_at
    check_writable(path)
    network = feature_network(features, size=sets.size)
    with counting("pictures") as on_progress:
        evaluation = measure(candidate, sets, features=network, on_progress=on_progress)
    write_evaluation(path, evaluation)
    _print(evaluation)
    console.print(f"\nThe figures and their protocol are in [bold]{escape(str(path))}[/bold].")
    run = candidate.run
    if out is None and run is not None and (run / "report.html").is_file():  # it has ended
        from cyclegan_edge.train.report import write_report

        console.print(f"They are in [bold]{escape(str(write_report(run)))}[/bold] too.")


def _print(evaluation: "Evaluation") -> None:
    quality, table = evaluation.quality, Table("", "translated", "as it was", box=None, header_style="bold")
    table.columns[1].justify = table.columns[2].justify = "right"
    if distance := quality.distance:
        table.add_row(f"FID to {distance.real} real pictures", f"{distance.fid:.4g}")
        table.add_row("KID", f"{distance.kid:.4g} ± {distance.kid_deviation:.2g}")
    if cycle := quality.cycle:
        table.add_row("cycle: L1, levels of 255", f"{cycle.l1_levels:.2f}")
        table.add_row("cycle: PSNR, dB", f"{cycle.psnr_db:.2f}")
    if truth := quality.truth:
        table.add_row("to the truth: PSNR, dB", f"{truth.psnr_translated_db:.2f}", f"{truth.psnr_untranslated_db:.2f}")
        table.add_row("to the truth: SSIM", f"{truth.ssim_translated:.3f}", f"{truth.ssim_untranslated:.3f}")
    if table.row_count:
        console.print(table)
    for sentence in (*evaluation.left_out, *([distance.caution] if distance and distance.caution else [])):
        console.print(sentence, markup=False)
