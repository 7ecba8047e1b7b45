"""Which checkpoint of a run is the best so far: measured on test pictures while it trains."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.evaluate.quality import (
    Metric,
    PictureSets,
    Quality,
    better,
    check_metric,
    figure,
    find_sets,
    quality_of,
)
from cyclegan_edge.train.state import TrainState


class Validator:
    """Measures A -> B on the test pictures of a run; the training goes on as if it had not been there."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Raises DataError without test pictures, ConfigError when they cannot give `output.metric`, and FeatureError
        when that is FID or KID and its network is missing."""
        self._metric: Metric = config.output.metric
        self._sets = find_sets(
            Path(config.data), size=config.size, most=config.output.evaluate_on, domains=config.domains
        )
        self._reference = _reference(config, self._sets, device)
        check_metric(self._metric, self._sets)

    def __call__(self, state: TrainState) -> tuple[dict[str, float], bool]:
        """The figures by name, and whether the deciding one is the best of the run, which `state` then remembers."""
        judged = state.averages or state.networks
        with torch.compiler.set_stance("force_eager"):  # other shapes and modes are not worth compiling for
            quality = quality_of(
                translate_with(judged.generator_ab, finite=False),
                translate_with(judged.generator_ba, finite=False),
                self._sets,
                reference=self._reference,
            )
        found = figure(self._metric, quality)
        best = better(self._metric, found, state.best.get(self._metric))
        if best:
            state.best = {self._metric: found}
        return _flat(quality), best


def _reference(config: TrainConfig, sets: PictureSets, device: torch.device) -> Any:
    if config.output.metric not in ("fid", "kid"):
        return None
    from cyclegan_edge.train.evaluate.features import open_network  # torch-fidelity: only when needed
    from cyclegan_edge.train.evaluate.quality import reference_of

    return reference_of(open_network(config.output.features, size=config.size, device=device), sets)


def _flat(quality: Quality) -> dict[str, float]:
    groups = (asdict(part) for part in (quality.distance, quality.cycle, quality.truth) if part is not None)
    return {name: value for group in groups for name, value in group.items() if isinstance(value, float)}
