"""Nested settings and results as an HTML table: one row per value, indented under the name of what it belongs to."""

import json
import math
from collections.abc import Iterator, Mapping
from html import escape
from itertools import islice

from cyclegan_edge.train.report.chart import short

_ROWS = 200
_DEPTH = 3  # deeper values are written as JSON
_LENGTH = 300  # characters of a value


def table(caption: str, values: Mapping[str, object]) -> str:
    """A <table> in a frame that scrolls sideways; rows after the first 200 are left out, aloud."""
    rows = list(islice(_rows(values, 0), _ROWS + 1))
    cut = f'<tr><td colspan="2">and more than these {_ROWS} rows</td></tr>' if len(rows) > _ROWS else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>"
        f'<thead><tr><th scope="col">Name</th><th scope="col">Value</th></tr></thead>'
        f"<tbody>{''.join(rows[:_ROWS])}{cut}</tbody></table></div>"
    )


def _rows(values: Mapping[str, object], depth: int) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
            value = {str(number): entry for number, entry in enumerate(value, 1)}
        if isinstance(value, dict) and value and depth < _DEPTH:
            yield f'<tr><th scope="rowgroup" colspan="2" class="branch depth-{depth}">{escape(str(name))}</th></tr>'
            yield from _rows(value, depth + 1)
        else:
            head = f'<th scope="row" class="depth-{depth}">{escape(str(name))}</th>'
            yield f"<tr>{head}<td>{escape(_text(value))}</td></tr>"


def _text(value: object) -> str:
    match value:
        case None:
            text = "none"
        case bool():
            text = "yes" if value else "no"
        case float():
            text = short(value) if not value.is_integer() or math.isinf(value) else f"{value:g}"
        case list():
            text = ", ".join(_text(entry) for entry in value)
        case dict():
            text = json.dumps(value, default=str)
        case _:
            text = str(value)
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"
