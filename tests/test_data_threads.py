"""Work in threads: in order, a bounded number of results ahead, nothing left behind."""

import threading

import pytest

from cyclegan_edge.train.data.threads import map_ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(map_ahead(str, range(20), workers=workers, ahead=2)) == [str(number) for number in range(20)]


def test_a_bounded_number_of_items_is_taken_ahead_of_the_results() -> None:
    items = iter(range(100))

    results = map_ahead(abs, items, workers=2, ahead=4)

    assert next(results) == 0
    assert next(items) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_takes_the_place_of_its_result(workers: int) -> None:
    results = map_ahead(lambda number: 6 // number, [3, 2, 0, 1], workers=workers, ahead=2)

    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_stopping_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    results = map_ahead(abs, range(100), workers=2, ahead=1)
    next(results)

    results.close()

    assert threading.active_count() == before
