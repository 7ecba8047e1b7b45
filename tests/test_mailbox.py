"""The mailbox between two stages: the newest wins, or none is lost."""

import threading

from cyclegan_edge.video.mailbox import Mailbox


def test_the_newest_wins() -> None:
    mailbox: Mailbox[int] = Mailbox()

    for item in (1, 2, 3):
        assert mailbox.put(item)

    assert mailbox.take() == 3
    assert mailbox.take(timeout=0) is None
    assert not mailbox.ended


def test_every_item_is_kept_where_that_is_asked_for() -> None:
    mailbox: Mailbox[int] = Mailbox(every=True)
    putting = threading.Thread(target=lambda: [mailbox.put(item) for item in range(50)])

    putting.start()
    taken = [mailbox.take(timeout=10) for _ in range(50)]
    putting.join(60)

    assert taken == list(range(50))


def test_a_closed_mailbox_gives_what_is_in_it_and_ends() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)

    mailbox.close()

    assert not mailbox.put(2)
    assert not mailbox.ended
    assert mailbox.take() == 1
    assert mailbox.ended
    assert mailbox.take() is None


def test_a_mailbox_closed_with_discard_is_empty() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)

    mailbox.close(discard=True)

    assert mailbox.take() is None


def test_closing_ends_a_wait_on_either_side() -> None:
    full: Mailbox[int] = Mailbox(every=True)
    full.put(1)
    empty: Mailbox[int] = Mailbox()
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
        thread.join(60)

    assert sorted(ends, key=str) == [False, None]
