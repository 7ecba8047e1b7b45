"""How good a few minutes of training are, and what an export costs. Writes benchmarks/quality.md and quality.jpg.

    python benchmarks/quality.py [--minutes 15] [--keep FOLDER]

Summer landscapes become winter without pairs; the true winter of the 40 test pictures is known, so the result can be
measured against it. Everything is done by the commands that a user types; the figures are those that they stored.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from preprocess import cpu_name

from cyclegan_edge import Translator
from cyclegan_edge.images import list_images, read_image, write_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.train.checkpoint import find_checkpoint

REPORT = Path(__file__).with_suffix(".md")
SHEET = REPORT.with_suffix(".jpg")
SIZE = 128  # px, of the crops and of every picture compared
SETTINGS = {  # what differs from the recipe, so that two CPU cores see enough steps
    "generator.width": "16",
    "generator.blocks": "4",
    "generator.upsampling": "resize",
    "discriminator.width": "16",
    "optimiser.learning_rate": "6e-4",
    "optimiser.ema": "0.995",
}
ENGINES = ("onnxruntime fp32", "onnxruntime fp16")
COLUMNS = 8  # test pictures on the sheet


def run(folder: Path, *arguments: str) -> None:
    """A command of cyclegan-edge in `folder`, as typed."""
    subprocess.run([sys.executable, "-m", "cyclegan_edge", *arguments], cwd=folder, check=True)


def measure(folder: Path, minutes: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train in `folder`; the seconds it took and the steps, and the stored evaluation of each candidate."""
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    run(folder, "data", "scenes", "--out", "scenes")
    began = time.monotonic()
    run(folder, "train", "scenes", "--size", str(SIZE), "--minutes", str(minutes), *settings)
    seconds = time.monotonic() - began
    run(folder, "evaluate", "runs/scenes")
    run(folder, "export", "runs/scenes", "--fp16")
    checkpoint = find_checkpoint(folder / "runs" / "scenes")
    assert checkpoint is not None  # the run has just ended well
    evaluations = {"PyTorch fp32": read(folder / "runs" / "scenes" / "evaluation" / f"{checkpoint.stem}.json")}
    for engine in ENGINES:
        name, precision = engine.split()
        chosen = ("--engine", name, "--precision", precision, "--out", f"{precision}.json")
        run(folder, "evaluate", "models/scenes", "--data", "scenes", *chosen)
        evaluations[engine] = read(folder / f"{precision}.json")
    return {"seconds": seconds, "steps": evaluations["PyTorch fp32"]["model"]["step"]}, evaluations


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def sheet(folder: Path) -> None:
    """Summer, its translation by the exported model, its true winter, for some test pictures."""
    translator = Translator.load(folder / "models" / "scenes", engine="onnxruntime", fit="stretch")
    columns = []
    for path in list_images(folder / "scenes" / "testA", most=COLUMNS):
        summer, winter = (
            resize(read_image(folder / "scenes" / domain / path.name), (SIZE, SIZE)) for domain in ("testA", "truthB")
        )
        columns.append(np.vstack([summer, translator(summer), winter]))
    write_image(SHEET, np.hstack(columns))


def report(trained: dict[str, Any], evaluations: dict[str, Any], minutes: float) -> str:
    protocol = evaluations["PyTorch fp32"]["protocol"]
    truth = evaluations["PyTorch fp32"]["quality"]["truth"]
    lines = [
        f"# Quality after {minutes:g} minutes on {cpu_name()}, {len(os.sched_getaffinity(0))} cores",
        "",
        "Written by `python benchmarks/quality.py`; run it again instead of editing. Summer to winter, unpaired,",
        "on the 200 rendered landscapes of each season that `cyclegan-edge data scenes` writes;",
        f"{trained['steps']} steps in {trained['seconds'] / 60:.1f} minutes, of",
        f"`--size {SIZE}` and " + ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items()) + ".",
        "",
        f"Measured on the {protocol['translated']['pictures']} test pictures, which training does not see, at "
        f"{protocol['size']} px, resized by {protocol['resize']}.",
        f"Python {platform.python_version()}, torch {version('torch')}, onnxruntime {version('onnxruntime')}.",
        "",
        "| | PSNR to the true winter | SSIM to it | cycle, PSNR |",
        "|---|---|---|---|",
        f"| summer as it was | {truth['psnr_untranslated_db']:.2f} dB | {truth['ssim_untranslated']:.3f} | |",
    ]
    for name, evaluation in evaluations.items():
        truth, cycle = evaluation["quality"]["truth"], evaluation["quality"]["cycle"]
        back = f"{cycle['psnr_db']:.2f} dB" if cycle else ""
        lines.append(f"| {name} | {truth['psnr_translated_db']:.2f} dB | {truth['ssim_translated']:.3f} | {back} |")
    lines += [
        "",
        f"![Summer, translated, true winter]({SHEET.name})",
        "",
        "*Above: summer. Middle: translated by the exported float32 graph. Below: the true winter.*",
        "",
        "FID and KID need Inception's weights, which are a download; `cyclegan-edge evaluate` says where to put them.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0, help="of training")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        trained, evaluations = measure(folder, arguments.minutes)
        sheet(folder)
    REPORT.write_text(report(trained, evaluations, arguments.minutes), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))  # noqa: T201


if __name__ == "__main__":
    main()
