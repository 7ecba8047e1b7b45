"""A student in another shape than the one it goes on from: wider, with fewer blocks, or both.

Wider, it makes the same pictures at first: the new channels start random, and the old ones do not read them yet.
Net2Net (Chen et al. 2016, arXiv:1511.05641) does that with copies instead, which then have to grow apart. A block less
is a block left out.
"""

import torch
from torch import Tensor, nn

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.train.networks import CompactGenerator, GeneratorConfig, ResidualBlock, init_weights
from cyclegan_edge.train.state import Weights


def check_reachable(before: GeneratorConfig, after: GeneratorConfig) -> None:
    """Raise ConfigError unless both are the same, or compact and `after` no narrower and without more blocks."""
    if before == after:
        return
    if {before.kind, after.kind} != {"compact"} or after.width < before.width or after.blocks > before.blocks:
        raise ConfigError(
            f"A compact student can become wider and lose blocks, but this would be {_told(after)} from "
            f"{_told(before)}; leave out the settings of the generator, or --from."
        )


def reshaped(weights: Weights, before: GeneratorConfig, after: GeneratorConfig, *, seed: int) -> Weights:
    """The weights of a student of shape `after`, from those of one of shape `before`; `seed` is of the new channels.

    Raises ConfigError as `check_reachable`."""
    check_reachable(before, after)
    if before == after:
        return weights
    channels = weights["body.0.weight"].shape[1], weights["head.0.weight"].shape[0] // 4
    old, new = CompactGenerator(before, *channels), CompactGenerator(after, *channels)
    old.load_state_dict(weights)
    old.body = _with_blocks(old.body, after.blocks)
    init_weights(new, torch.Generator().manual_seed(seed), "xavier", 1.0)
    *body, (new_detail, old_detail), (new_head, old_head) = zip(_convolutions(new), _convolutions(old), strict=True)
    with torch.no_grad():
        for mine, theirs in (*body, (new_detail, old_detail)):
            _take(mine, theirs, torch.arange(theirs.in_channels))
        from_body = torch.arange(old_head.in_channels - old_detail.out_channels)
        from_detail = torch.arange(old_detail.out_channels) + new_head.in_channels - new_detail.out_channels
        _take(new_head, old_head, torch.cat((from_body, from_detail)))
    return new.state_dict()


def _with_blocks(body: nn.Sequential, count: int) -> nn.Sequential:
    """Some of its residual blocks, evenly spread from the first to the last, and all other layers."""
    blocks = [index for index, layer in enumerate(body) if isinstance(layer, ResidualBlock)]
    kept = {blocks[place * (len(blocks) - 1) // max(1, count - 1)] for place in range(count)}
    return nn.Sequential(*(layer for index, layer in enumerate(body) if index in kept or index not in blocks))


def _convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def _take(new: nn.Conv2d, old: nn.Conv2d, reads: Tensor) -> None:
    """Let the first outputs of `new` be those of `old`, whose inputs are at `reads` now."""
    assert new.bias is not None  # as compact generators have it
    assert old.bias is not None
    outputs = slice(old.out_channels)
    new.weight[outputs] = 0.0
    new.weight[outputs, reads] = old.weight
    new.bias[outputs] = old.bias


def _told(shape: GeneratorConfig) -> str:
    return f"{shape.kind} {shape.width}x{shape.blocks}"
