"""Every file that an export makes, against float32 PyTorch on a folder of pictures. Writes the table of docs/export.md.

    python benchmarks/parity.py RUN PICTURES

Each picture is resized to the size that RUN was trained at. What a file gives there is compared with what PyTorch
gives, in uint8, by the gate of `cyclegan-edge export`; OpenVINO, which reads the same graphs, is measured besides.
"""

import argparse
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

from machine import cpu_name, table, versions

from cyclegan_edge.backends import open_backend
from cyclegan_edge.bounds import BOUNDS, Pair, pairs_of
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import EngineError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.parity import Verdict, compare, load_pictures
from cyclegan_edge.export.pipeline import export_checkpoint
from cyclegan_edge.export.weights.open import open_generator
from cyclegan_edge.images import list_images
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.evaluate.picture_generator import translate_with

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
BEGIN, END = "<!-- written by benchmarks/parity.py -->\n", "<!-- end -->"
ENGINES = {".onnx": "onnxruntime", ".param": "ncnn"}  # what the gate runs a file with
FIXED = (256, 448)  # px


def measure(checkpoint: Path, pictures: Path, folder: Path) -> tuple[list[Verdict], str]:
    """What came of each file with each engine, and a line about what was exported."""
    count = len(list_images(pictures))
    verdicts: list[Verdict] = []
    graphs = ExportConfig(fp16=True, ncnn=True, bgr=True, float_io=True, fixed=FIXED)
    config = replace(graphs, pictures=pictures, compare=count)
    bundle = export_checkpoint(checkpoint, folder / "model", config, say=print, on_verdict=verdicts.append)
    trained = open_generator(checkpoint, "ab")
    pairs = pairs_of(translate_with(trained.generator), load_pictures(pictures, size=trained.size, most=count))
    verdicts += [verdict for precision in BOUNDS if (verdict := by_openvino(bundle, precision, pairs))]
    weights = sum(weight.numel() for weight in trained.generator.parameters()) / 1e6
    about = f"a generator of {weights:.2f} million weights after {trained.source.step} steps, {count} pictures"
    return verdicts, f"{about} of {pictures.parent.name}/{pictures.name} at {trained.size} px"


def by_openvino(bundle: Bundle, precision: Precision, pairs: list[Pair]) -> Verdict | None:
    """The graph as OpenVINO computes it; None where this CPU cannot."""
    try:
        backend, _ = open_backend(bundle, engine="openvino", precision=precision)
    except EngineError as error:
        print(error)  # noqa: T201
        return None
    stored = bundle.artifact("onnx", "fp32" if precision == "bf16" else precision)
    assert stored is not None  # OpenVINO has just opened it
    verdict = compare(stored.file, backend.run, pairs, bound=BOUNDS[precision], engine=f"openvino {precision}")
    return replace(verdict, bytes=stored.bytes or 0)


def report(verdicts: list[Verdict], about: str) -> str:
    rows = []
    for verdict in verdicts:
        engine = verdict.engine or ENGINES[Path(verdict.file).suffix]
        figures = [verdict.reason, "", "", "", ""]
        if parity := verdict.parity:
            refused = "" if verdict.outcome == "good" else ", refused"
            levels = [str(parity.max_levels), f"{parity.mean_levels:.5f}"]
            likeness = [f"{parity.psnr_db:.1f} dB", f"{parity.ssim:.5f}", f"{parity.share_above_1:.4%}{refused}"]
            figures = levels + likeness
        rows.append([verdict.file, engine, f"{verdict.bytes / 1e6:.1f}", *figures])
    heads = ["file", "by", "MB", "most", "mean", "PSNR", "SSIM", "more than 1 off"]
    return f"""{date.today().isoformat()}, {cpu_name()}, {versions("torch", "onnxruntime", "openvino", "ncnn")};
{about}. Levels of 255.

{table(heads, rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    arguments = parser.parse_args()
    checkpoint = find_checkpoint(arguments.run)
    if checkpoint is None:
        parser.error(f"{arguments.run} has no checkpoint")
    with tempfile.TemporaryDirectory() as folder:
        text = report(*measure(checkpoint, arguments.pictures, Path(folder)))
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
