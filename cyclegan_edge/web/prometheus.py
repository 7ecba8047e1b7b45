"""The numbers of a run in the text format of Prometheus."""

from collections.abc import Mapping
from typing import Any

_HELP = {
    "frames": ("counter", "cyclegan_edge_frames_total", "Frames that were translated and shown."),
    "dropped": ("counter", "cyclegan_edge_dropped_frames_total", "Frames of the source that were not."),
    "fps": ("gauge", "cyclegan_edge_frames_per_second", "Of the last frames."),
    "idle_s": ("gauge", "cyclegan_edge_seconds_since_picture", "Since the last picture."),
    "watchers": ("gauge", "cyclegan_edge_watchers", "Browsers that watch the page."),
}


def prometheus(numbers: Mapping[str, Any]) -> str:
    """`Page.numbers` as metrics; what is not known yet is left out."""
    lines = []
    for key, (kind, name, what) in _HELP.items():
        if numbers.get(key) is not None:
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", f"{name} {numbers[key]}"]
    if stages := numbers.get("median_ms"):
        name = "cyclegan_edge_stage_seconds"
        lines += [f"# HELP {name} Median of the last frames; age is from capture to show.", f"# TYPE {name} gauge"]
        lines += [f'{name}{{stage="{stage}"}} {value / 1000:.6f}' for stage, value in stages.items()]
    return "\n".join(lines) + "\n"
