"""How one stage hands its work to the next: a place for one item, between two threads."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds one item. By default `put` replaces what nobody took: the newest wins and no queue ever grows.

    With `every`, `put` waits until the item before was taken, so that none is lost.
    """

    def __init__(self, *, every: bool = False) -> None:
        self._every = every
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Leave `item`; False when the mailbox was closed, and the item is lost."""
        with self._changed:
            if self._every:
                self._changed.wait_for(lambda: self._item is None or self._closed)
            if self._closed:
                return False
            self._item = item
            self._changed.notify_all()
            return True

    def take(self, timeout: float | None = None) -> T | None:
        """The item, waiting up to `timeout` s for one; None when none came or none will: see `ended`."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        """Let nothing more in; what lies in the mailbox can still be taken unless `discard`."""
        with self._changed:
            self._closed = True
            if discard:
                self._item = None
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether `take` will never give anything again."""
        with self._changed:
            return self._closed and self._item is None
