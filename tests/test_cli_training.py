"""How a signal ends a run: once to save, again after a while to give up."""

import signal
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_time_to_save_ends_the_process(number: signal.Signals) -> None:
    script = """
import signal, sys
from cyclegan_edge.cli import training
training.GRACE = 0.0
with training.stop_on_signal():
    for _ in range(2):
        signal.raise_signal(int(sys.argv[1]))
    print("still here")
"""

    ended = subprocess.run(
        [sys.executable, "-c", script, str(number.value)], capture_output=True, text=True, check=False
    )

    assert ended.returncode == -number
    assert "without saving" in ended.stdout
    assert "still here" not in ended.stdout
