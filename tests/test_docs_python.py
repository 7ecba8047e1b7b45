"""The Python of README and docs/python.md runs as it is written."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.images import read_image, write_image

ROOT = Path(__file__).parents[1]


def run(page: Path, folder: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme(tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "here" / "models" / "horse2zebra")
    write_image(tmp_path / "here" / "horse.jpg", np.zeros((32, 40, 3), np.uint8))

    run(ROOT / "README.md", tmp_path / "here")


def test_the_page_trains_exports_and_translates(tmp_path: Path) -> None:
    pytest.importorskip("torch")

    run(ROOT / "docs" / "python.md", tmp_path)

    assert read_image(tmp_path / "winter.png").shape == (64, 64, 3)
