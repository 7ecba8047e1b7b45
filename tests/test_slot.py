"""The slot between two stages: the newest wins, or none is lost."""

import threading

from cyclegan_edge.video.slot import Slot


def test_the_newest_wins() -> None:
    slot: Slot[int] = Slot()

    for item in (1, 2, 3):
        assert slot.put(item)

    assert slot.take() == 3
    assert slot.take(timeout=0) is None
    assert not slot.ended


def test_every_item_is_kept_where_that_is_asked_for() -> None:
    slot: Slot[int] = Slot(every=True)
    putting = threading.Thread(target=lambda: [slot.put(item) for item in range(50)])

    putting.start()
    taken = [slot.take(timeout=10) for _ in range(50)]
    putting.join(10)

    assert taken == list(range(50))


def test_a_closed_slot_gives_what_is_in_it_and_ends() -> None:
    slot: Slot[int] = Slot()
    slot.put(1)

    slot.close()

    assert not slot.put(2)
    assert not slot.ended
    assert slot.take() == 1
    assert slot.ended
    assert slot.take() is None


def test_a_slot_closed_with_discard_is_empty() -> None:
    slot: Slot[int] = Slot()
    slot.put(1)

    slot.close(discard=True)

    assert slot.take() is None


def test_closing_ends_a_wait_on_either_side() -> None:
    full: Slot[int] = Slot(every=True)
    full.put(1)
    empty: Slot[int] = Slot()
    ends: list[object] = []
    waiting = [
        threading.Thread(target=lambda: ends.append(full.put(2))),
        threading.Thread(target=lambda: ends.append(empty.take())),
    ]

    for thread in waiting:
        thread.start()
    full.close()
    empty.close()
    for thread in waiting:
        thread.join(10)

    assert sorted(ends, key=str) == [False, None]
