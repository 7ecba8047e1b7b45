"""What the curves of a CycleGAN mean: the words of the report, and the values to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import TypeVar

from cyclegan_edge.train.report.chart import Mark

T = TypeVar("T")

GROUPS = {  # part of a tag before its slash -> title and introduction, in the order of the page
    "evaluation": ("Evaluation", "Measured during the run on pictures that the training never sees."),
    "loss": (
        "Losses",
        "Faint: as measured. Strong: smoothed; the number is where it ends. "
        "The two GAN losses are a game, so they hover; cycle and identity should fall.",
    ),
    "gradient_norm": (
        "Gradients",
        "Their length at each step. A sudden climb comes before losses that are not finite.",
    ),
    "": ("Learning rate and machine", ""),
}

HINTS = (
    "Look at the samples first: no loss says whether a translation looks right.",
    "Cycle losses fall steeply, then slowly. If they rise again for long, the learning rate is too high.",
    "GAN losses do not fall: generator and discriminator learn against each other. Except with wgangp, a "
    "discriminator that stays near 0 has won and teaches little; the warnings say so when it lasts.",
    "Translations that equal their input, or look alike for different inputs, are failures that losses hide.",
    "The last steps count most: with a falling learning rate, much of the detail comes at the end.",
)

_ORDER = (  # side by side: what is read together
    *("loss/gan", "loss/discriminator", "loss/cycle", "loss/identity"),
    *("gradient_norm/generators", "gradient_norm/discriminators"),
    *("learning_rate", "pairs_per_second"),
)
_ACRONYMS = {"gan": "GAN", "psnr": "PSNR", "ssim": "SSIM", "fid": "FID", "kid": "KID", "lpips": "LPIPS", "gib": "GiB"}
_UNITS = {
    "evaluation/psnr": "dB",
    "memory_gib": "GiB",
    "pairs_per_second": "pairs/s",
}
_TITLES = {"memory_gib": "Memory of the device", "pairs_per_second": "Speed", "data_wait_share": "Waiting for pictures"}
_NOTES = {
    "loss/cycle": "How far a picture, there and back, is from itself: the mean absolute difference, 0 to 2.",
    "loss/identity": "How much a generator changes a picture that is in its target domain already, 0 to 2.",
    "data_wait_share": "Share of the time, 0 to 1. Well above 0, the pictures come too slowly: use more workers.",
}
_GENERATOR = "What the generators still lose against the discriminators."
_DISCRIMINATOR = "How badly each discriminator tells real from generated pictures of its domain."
_GAN_NOTES = {  # objective -> of the generators, of the discriminators
    "lsgan": (f"{_GENERATOR} Near 1 they fool nobody.", f"{_DISCRIMINATOR} Near 0 it has won."),
    "vanilla": (f"{_GENERATOR} Far above the draw they fool nobody.", f"{_DISCRIMINATOR} Near 0 it has won."),
    "hinge": (f"{_GENERATOR} From 1 on they fool nobody.", f"{_DISCRIMINATOR} Near 0 it has won."),
    "wgangp": (
        "The critics' score of generated pictures, negated; only changes mean something.",
        "Half the distance between the scores of generated and real pictures; towards 0 the two come to look alike.",
    ),
}
_DRAWS = {  # objective -> the same losses when the discriminator cannot decide
    "lsgan": (0.25, 0.25),
    "vanilla": (log(2.0), log(2.0)),
    "hinge": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Guide:
    """What stands around a chart."""

    title: str
    unit: str = ""
    note: str = ""
    mark: Mark | None = None


def guide_of(tag: str, gan: str) -> Guide:
    """Of the chart of `tag` ("loss/cycle", without its direction) in a run with the objective `gan`."""
    note, mark = _NOTES.get(tag, ""), None
    if tag in ("loss/gan", "loss/discriminator") and gan in _GAN_NOTES:
        which = int(tag == "loss/discriminator")
        note = _GAN_NOTES[gan][which]
        mark = Mark(_DRAWS[gan][which], "a draw") if gan in _DRAWS else None
    return Guide(_TITLES.get(tag) or readable(tag.rpartition("/")[2]), _UNITS.get(tag, ""), note, mark)


def is_noisy(tag: str) -> bool:
    """Whether a value says something only together with its neighbours, as that of a single batch does."""
    return tag != "learning_rate" and not tag.startswith("evaluation/")


def group_title(group: str) -> tuple[str, str]:
    """Title and introduction of a group of tags."""
    return GROUPS.get(group) or (readable(group), "")


def group_order(groups: Mapping[str, object]) -> list[str]:
    """The known groups in the order of `GROUPS`, unknown ones before the last."""
    known = list(GROUPS)
    return sorted(groups, key=lambda group: (known.index(group) if group in known else len(known) - 1.5, group))


def readable(name: str) -> str:
    """`gradient_norm` -> "Gradient norm", `psnr` -> "PSNR"."""
    words = [_ACRONYMS.get(word, word) for word in name.split("_") if word]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def in_order(charts: Mapping[str, T]) -> list[tuple[str, T]]:
    """Tags and what belongs to them, in the order of `_ORDER`, then by name."""
    known = list(_ORDER)
    return sorted(charts.items(), key=lambda item: (known.index(item[0]) if item[0] in known else len(known), item[0]))
