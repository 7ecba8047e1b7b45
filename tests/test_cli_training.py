"""How a signal ends a run: once to save, again after a while to give up."""

import signal

import pytest

from cyclegan_edge.cli import training
from cyclegan_edge.cli.training import stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_come_together_are_one_request(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    with stop_on_signal() as stop:
        asked_before = bool(stop)
        signal.raise_signal(number)
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGINT)
        asked = bool(stop)

    assert (asked_before, asked) == (False, True)
    assert signal.getsignal(number) is before


def test_a_signal_after_the_time_to_save_stops_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "GRACE", 0.0)
    before = signal.getsignal(signal.SIGINT)

    with stop_on_signal():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    assert "without saving" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
