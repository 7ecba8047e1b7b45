"""The package as somebody meets it who imports it."""

import pydoc
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

import cyclegan_edge
from cyclegan_edge import CycleGanEdgeError, list_images, read_bundle, read_image, write_image


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
