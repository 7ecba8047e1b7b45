"""Sample pictures for a page: the newest one large, and a timeline, as JPEGs inside the page and bounded in size."""

import base64
import re
from html import escape
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cyclegan_edge.errors import ImageError
from cyclegan_edge.images import read_image
from cyclegan_edge.preprocess import resize

TIMELINE = 12  # pictures, spread over the run

_LARGE, _SMALL = (1200, 1 << 20), (480, 1 << 17)  # px of width and bytes at most, so the page stays below 4 MB
_QUALITY = 88  # JPEG, 0..100
_NAME = re.compile(r"step_(\d{1,18})\.(?:jpg|png)")


def samples_section(folder: Path) -> str:
    """A <section>, "" when the folder holds no readable sample; a damaged one is left out."""
    found = {int(match[1]): path for path in folder.glob("step_*") if (match := _NAME.fullmatch(path.name))}
    steps = sorted(found)
    while steps and (newest := _figure(found[steps[-1]], steps[-1], *_LARGE)) is None:
        steps.pop()
    if not steps:
        return ""
    shown = [figure for step in spread(steps, TIMELINE) if (figure := _figure(found[step], step, *_SMALL))]
    timeline = f'<div class="timeline">{"".join(shown)}</div>' if len(shown) > 1 else ""
    return (
        '<section><h2>Samples</h2><p class="intro">One pair of pictures from the training, as it is at that step. '
        "Upper row from A, lower row from B.</p>"
        '<div class="large"><div class="columns" aria-hidden="true">'
        "<span>real</span><span>translated</span><span>there and back</span></div>"
        f"{newest}</div>{timeline}</section>"
    )


def spread(steps: list[int], count: int) -> list[int]:
    """At most `count` of the rising steps, the first and the last among them, evenly spread over the run."""
    wanted = np.linspace(steps[0], steps[-1], count)
    nearest = {int(np.argmin(np.abs(np.array(steps) - step))) for step in wanted}
    return [steps[place] for place in sorted(nearest)]


def _figure(path: Path, step: int, width: int, limit: int) -> str | None:
    try:
        picture = read_image(path)
    except ImageError:
        return None
    jpeg = _encode(picture, width, limit)
    what = f"Samples at step {step:,}: real, translated, and there and back, for A and for B"
    return (
        f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" alt="{escape(what)}">'
        f"<figcaption>step {step:,}</figcaption></figure>"
    )


def _encode(picture: npt.NDArray[np.uint8], width: int, limit: int) -> bytes:
    """JPEG of at most `width` pixels across and `limit` bytes."""
    while True:
        scale = min(1.0, width / picture.shape[1])
        size = max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale))
        smaller = resize(picture, size) if scale < 1.0 else picture
        bgr = cv2.cvtColor(smaller, cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        if len(jpeg) <= limit or width < 16:
            return jpeg
        width = width * 3 // 4
