"""How good the pictures are that a watcher gets over its link."""

from cyclegan_edge.web.watcher import FIRST_LEVEL, LATE, LEVELS, SOON, LinkQuality


def test_a_slow_link_gets_smaller_pictures_and_a_fast_one_better_ones() -> None:
    slow, fast = LinkQuality(), LinkQuality()

    for _ in range(len(LEVELS)):
        slow.acknowledged(2 * LATE)
    for _ in range(100):
        fast.acknowledged(SOON / 2)

    assert (slow.level, fast.level) == (len(LEVELS) - 1, 0)


def test_a_link_that_cannot_do_better_is_tried_less_and_less_often() -> None:
    quality, better = LinkQuality(), 0

    for _ in range(1000):  # a link that carries the first level but nothing above
        before = quality.level
        quality.acknowledged(SOON / 2 if before >= FIRST_LEVEL else 2 * LATE)
        better += quality.level < before

    assert better < 15
