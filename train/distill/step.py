"""What a student minimises, and one step of it.

pixels       |s - t| + |s - t| of both at a quarter of the size
colours      (s - t)^2 of both at a sixteenth of the size: the student may choose where stripes lie, not a black patch
edges        |ds - dt|, d the differences between neighbouring pixels: no blur, no grain
contrast     max(0, c(s) - 1.5 c(t) - 0.05), c the sum of |d| of both directions, a mean over 15x15 places: stripes may
             lie elsewhere on a horse than the teacher's, but not beside it
features     |F(s) - F(t)| in the four maps of an ImageNet network, each channel scaled by its deviation
gram         |G(s) - G(t)|, G the Gram matrices of those maps (Gatys et al. 2016)
adversarial  hinge loss of a small head on each map (Sauer et al. 2021, arXiv:2111.01007): it tells the student's
             pictures from the teacher's, in the features that are there already, so it costs next to nothing; or from
             real ones of the domain
spikes       max(0, e - 6), e the mean square over the channels of what an instance norm gives, 1 in the mean over the
             places. A network can set the scale of a whole map by one bright place, which becomes a black droplet in
             the picture (Karras et al. 2020, arXiv:1912.04958, section 2) and costs 8 bits their accuracy

source, taught, made, real   (N, C, S, S) in -1..1: a picture, the teacher's translation, the student's; another picture
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan_edge.train.distill.config import DistillObjective
from cyclegan_edge.train.distill.state import DistillState
from cyclegan_edge.train.execution import Execution
from cyclegan_edge.train.imagenet import EfficientNetLite
from cyclegan_edge.train.networks import InstanceNorm

MAX_GRADIENT = 20.0  # norm that the student's gradient is clipped to: the first steps are steep

_CHANNELS = (16, 24, 40, 112)  # of the maps of EfficientNet-Lite0
_HEAD = 64  # channels inside a head
_LITTLE = 1e-3  # added to a deviation
_CAP = 6.0  # times the mean: maps of natural features have few such places
_AROUND = 15  # px, side of the squares that contrast is a mean over
_MORE, _ALLOWED = 1.5, 0.05  # times the teacher's contrast that a student may have, and what it may have anywhere
_FIRST_ALONE, _RISE = 300, 300  # steps without the adversarial term, and steps in which it rises to its weight


class DistillLosses(NamedTuple):
    """Of one step: 0-d float32, unweighted, on the device; 0 for a term that is left out."""

    pixels: Tensor
    colours: Tensor
    edges: Tensor
    contrast: Tensor
    features: Tensor
    gram: Tensor
    adversarial: Tensor
    spikes: Tensor
    heads: Tensor  # what the heads minimise


def excess_contrast(made: Tensor, taught: Tensor) -> Tensor:
    """How much more local contrast `made` has than `taught` allows: (N, C, S, S) each, in -1..1 -> the mean, 0-d."""
    return (_local_contrast(made) - _MORE * _local_contrast(taught) - _ALLOWED).relu().mean()


class FeatureSpace(nn.Module):
    """The ImageNet network, its maps normalised channel by channel to the teacher's pictures."""

    def __init__(self, network: EfficientNetLite, taught: Tensor) -> None:
        """`taught`: some of the teacher's pictures, (N, 3, S, S)."""
        super().__init__()
        self._network = network
        with torch.no_grad():
            maps = network.maps(taught)
        for index, values in enumerate(maps):
            self.register_buffer(f"mean_{index}", values.mean((0, 2, 3), keepdim=True))
            self.register_buffer(f"deviation_{index}", values.std((0, 2, 3), keepdim=True) + _LITTLE)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(N, 1 or 3, S, S) -> four maps, float32."""
        colour = pictures.expand(-1, 3, -1, -1)
        return [
            (values.float() - self.get_buffer(f"mean_{index}")) / self.get_buffer(f"deviation_{index}")
            for index, values in enumerate(self._network.maps(colour))
        ]


def new_heads() -> nn.ModuleList:
    """One for each map: (N, C, h, w) -> (N, 1, h, w) raw scores."""
    return nn.ModuleList(
        nn.Sequential(
            nn.Conv2d(channels, _HEAD, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(_HEAD, _HEAD, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(_HEAD, 1, 1),
        )
        for channels in _CHANNELS
    )


class DistillStep:
    """One update of the student, its average, and the heads."""

    def __init__(
        self, state: DistillState, objective: DistillObjective, execution: Execution, space: FeatureSpace | None
    ) -> None:
        """`space` is needed for the terms in features."""
        self.state = state
        self._objective, self._execution, self._space = objective, execution, space
        self._device = next(state.student.parameters()).device
        self._spikes: list[Tensor] = []  # of each norm, for the pictures of this step
        for norm in state.student.modules():
            if objective.spikes and isinstance(norm, InstanceNorm):
                norm.register_forward_hook(self._look_for_spikes)

    def __call__(self, source: Tensor, taught: Tensor, real: Tensor | None = None) -> tuple[DistillLosses, Tensor]:
        """The losses, and what the student made, without gradient.

        The heads compare with `real`, where it is given, instead of the teacher's pictures."""
        state, objective = self.state, self._objective
        state.heads.requires_grad_(False)  # the student needs their gradient towards its pictures only
        self._spikes.clear()
        with self._execution.autocast(self._device):
            made = state.student(source).float()
            if self._space is None:
                made_maps = taught_maps = list[Tensor]()
            else:
                made_maps = self._space(made)
                taught_maps = self._maps(taught)
            score = _sum((-head(values).float().mean() for head, values in self._judged(made_maps)), self._device)
        pixels = _l1(made, taught) + _l1(functional.avg_pool2d(made, 4), functional.avg_pool2d(taught, 4))
        colours = functional.mse_loss(functional.avg_pool2d(made, 16), functional.avg_pool2d(taught, 16))
        edges = _sum(map(_l1, _edges(made), _edges(taught)), self._device)
        contrast = excess_contrast(made, taught)
        features = _sum(map(_l1, made_maps, taught_maps), self._device)
        gram = _sum(map(_l1, map(_gram, made_maps), map(_gram, taught_maps)), self._device)
        spikes = _sum(self._spikes, self._device)
        rise = min(1.0, max(0.0, (state.step - _FIRST_ALONE) / _RISE))
        total = (
            objective.pixels * pixels
            + objective.colours * colours
            + objective.edges * edges
            + objective.contrast * contrast
            + objective.features * features
        )
        total = total + objective.gram * gram + rise * objective.adversarial * score + objective.spikes * spikes
        state.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.student.parameters(), MAX_GRADIENT)
        state.optimiser.step()

        loss_of_heads = self._teach_heads([values.detach() for values in made_maps], self._maps(real) or taught_maps)
        state.follow()
        losses = (pixels, colours, edges, contrast, features, gram, score, spikes, loss_of_heads)
        return DistillLosses(*(loss.detach().float() for loss in losses)), made.detach()

    def _look_for_spikes(self, _norm: nn.Module, _given: object, values: Tensor) -> None:
        values = values.to(torch.float32, copy=True)  # the ReLU that follows overwrites them
        self._spikes.append((values.square().mean(1) - _CAP).relu().mean())

    def _maps(self, pictures: Tensor | None) -> list[Tensor]:
        """Without gradient; none of no pictures."""
        if pictures is None or self._space is None:
            return []
        with torch.no_grad(), self._execution.autocast(self._device):
            return self._space(pictures)  # type: ignore[no-any-return]

    def _judged(self, maps: Sequence[Tensor]) -> Iterable[tuple[nn.Module, Tensor]]:
        return zip(self.state.heads if self._objective.adversarial else (), maps, strict=False)

    def _teach_heads(self, made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
        if not (self._objective.adversarial and made):
            return torch.zeros((), device=self._device)
        self.state.heads.requires_grad_(True)
        with self._execution.autocast(self._device):
            losses = (
                functional.relu(1.0 - head(good).float()).mean() + functional.relu(1.0 + head(fake).float()).mean()
                for head, good, fake in zip(self.state.heads, real, made, strict=True)
            )
            loss = _sum(losses, self._device)
        self.state.heads_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.state.heads_optimiser.step()
        return loss


def _l1(one: Tensor, other: Tensor) -> Tensor:
    return functional.l1_loss(one.float(), other.float())


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _local_contrast(x: Tensor) -> Tensor:
    """(N, C, S, S) -> (N, 1, S - 1, S - 1)."""
    right, below = (differences.abs().float().mean(1, keepdim=True) for differences in _edges(x))
    mean = right[..., 1:, :] + below[..., 1:]
    for height, width in ((_AROUND, 1), (1, _AROUND)):  # as in one, with an eighth of the additions
        padding = height // 2, width // 2
        mean = functional.avg_pool2d(mean, (height, width), stride=1, padding=padding, count_include_pad=False)
    return mean


def _gram(values: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, C), means over the places."""
    flat = values.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _sum(terms: Iterable[Tensor], device: torch.device) -> Tensor:
    """0 for none."""
    return sum(terms, start=torch.zeros((), device=device))
