"""The package as somebody meets it who imports it."""

import pydoc
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import cyclegan_edge
from cyclegan_edge import CycleGanEdgeError, list_images, read_bundle, read_image, write_image

ROOT = Path(__file__).parent.parent


def test_every_public_name_is_there_and_help_shows_it() -> None:
    shown = pydoc.plain(pydoc.render_doc(cyclegan_edge))

    for name in cyclegan_edge.__all__:
        assert hasattr(cyclegan_edge, name)
        assert name in dir(cyclegan_edge)
    for name in ("class Translator", "read_image(", "write_image(", "list_images(", "read_bundle("):
        assert name in shown
    assert cyclegan_edge.__version__ == version("cyclegan-edge")


def test_importing_loads_neither_torch_nor_opencv() -> None:
    code = "import sys, cyclegan_edge; sys.exit(any(name in sys.modules for name in ('torch', 'cv2', 'PIL')))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_may_be_strings_and_errors_are_ours() -> None:
    with pytest.raises(CycleGanEdgeError, match=r"none\.jpg is not there"):
        read_image("none.jpg")
    with pytest.raises(CycleGanEdgeError, match="none is not a folder"):
        list_images("none")
    with pytest.raises(CycleGanEdgeError, match="none is no exported model"):
        read_bundle("none")
    with pytest.raises(CycleGanEdgeError, match=r"'\.txt'"):
        write_image("a.txt", np.zeros((4, 4, 3), np.uint8))


def test_what_is_packed_holds_all_of_the_package(tmp_path: Path) -> None:
    """The models that come with it as well: an installation from files left out shows only once it is installed."""
    pack = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", pack, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    package = ROOT / "cyclegan_edge"
    wanted = {
        path.relative_to(ROOT) for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }

    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as packed:
        found = {Path(*Path(name).parts[1:]) for name in packed.getnames()}

    assert Path("cyclegan_edge/models/landscapes/manifest.json") in wanted
    assert wanted - found == set()
