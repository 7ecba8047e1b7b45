"""Students that go on in another shape: the wider one makes the same pictures, the shorter one keeps its ends."""

import pytest
import torch

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.train.distill.reshape import check_reachable, reshaped
from cyclegan_edge.train.networks import CompactGenerator, GeneratorConfig, InstanceNorm, init_weights


def compact(width: int, blocks: int, *, seed: int = 0, channels: tuple[int, int] = (3, 3)) -> CompactGenerator:
    network = CompactGenerator(shape(width, blocks), *channels)
    init_weights(network, torch.Generator().manual_seed(seed), "xavier", 1.0)
    with torch.no_grad():
        for name, bias in network.named_parameters():
            if name.endswith("bias"):
                bias.uniform_(-0.3, 0.3)
    return network.eval()


def shape(width: int, blocks: int) -> GeneratorConfig:
    return GeneratorConfig(kind="compact", width=width, blocks=blocks)


def loaded(width: int, blocks: int, weights: dict[str, torch.Tensor], channels: tuple[int, int]) -> CompactGenerator:
    network = compact(width, blocks, seed=9, channels=channels)
    network.load_state_dict(weights)
    return network


@pytest.mark.parametrize("channels", [(3, 3), (1, 3), (3, 1)])
@pytest.mark.parametrize(("width", "wider"), [(8, 9), (8, 12), (5, 21), (1, 2)])
def test_a_wider_student_makes_the_same_pictures(width: int, wider: int, channels: tuple[int, int]) -> None:
    before = compact(width, 2, channels=channels)
    picture = torch.rand(1, channels[0], 32, 48) * 2 - 1

    weights = reshaped(before.state_dict(), shape(width, 2), shape(wider, 2), seed=1)

    after = loaded(wider, 2, dict(weights), channels)
    torch.testing.assert_close(after(picture), before(picture), rtol=0, atol=1e-5)


def test_the_new_channels_differ_and_learn() -> None:
    weights = reshaped(compact(4, 1).state_dict(), shape(4, 1), shape(8, 1), seed=1)
    after = loaded(8, 1, dict(weights), (3, 3))
    maps: list[torch.Tensor] = []
    norm = next(layer for layer in after.modules() if isinstance(layer, InstanceNorm))
    norm.register_forward_hook(lambda _norm, _given, values: maps.append(values))

    after(torch.rand(1, 3, 32, 32)).square().mean().backward()

    alike = torch.corrcoef(maps[0][0].flatten(1)).fill_diagonal_(0.0).abs().max()
    assert alike < 0.999
    reading = after.get_parameter("head.0.weight")
    assert reading.grad is not None
    assert (reading.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("blocks", "kept"), [(5, [0, 1, 3, 5, 7]), (8, list(range(8))), (2, [0, 7]), (1, [0]), (0, [])]
)
def test_blocks_are_left_out_evenly(blocks: int, kept: list[int]) -> None:
    before = compact(4, 8)

    weights = reshaped(before.state_dict(), shape(4, 8), shape(4, blocks), seed=1)

    after = loaded(4, blocks, dict(weights), (3, 3))
    theirs = [before.body[3 + index] for index in kept]
    before.body = torch.nn.Sequential(*before.body[:3], *theirs, *before.body[11:])
    picture = torch.rand(1, 3, 32, 32)
    assert torch.equal(after(picture), before(picture))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (shape(8, 2), shape(7, 2)),
        (shape(8, 2), shape(8, 3)),
        (GeneratorConfig(width=8, blocks=2), shape(8, 2)),
        (GeneratorConfig(width=8, blocks=2), GeneratorConfig(width=16, blocks=2)),
    ],
)
def test_what_cannot_come_from_it_is_refused(before: GeneratorConfig, after: GeneratorConfig) -> None:
    with pytest.raises(ConfigError, match=f"would be {after.kind} {after.width}x{after.blocks} from {before.kind} 8x2"):
        check_reachable(before, after)


def test_the_same_shape_is_left_alone() -> None:
    plain = GeneratorConfig(width=8, blocks=2)
    weights = {"any": torch.zeros(1)}

    assert reshaped(weights, plain, plain, seed=0) is weights
