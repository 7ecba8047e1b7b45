"""How a signal ends a run: once to save, again after a while to give up."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pytest

HEARS_SIGHUP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # the tests may run under nohup


def run_alone(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own: a signal concerns everything that a process holds, all libraries included."""
    program = [sys.executable, "-c", HEARS_SIGHUP + script, *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_come_together_are_one_request(number: signal.Signals) -> None:
    script = """
import signal, sys
from cyclegan_edge.cli.training import stop_on_signal
number = int(sys.argv[1])
before = signal.getsignal(number)
with stop_on_signal() as stop:
    assert not stop
    signal.raise_signal(number)
    signal.raise_signal(number)
    signal.raise_signal(signal.SIGINT)
    assert stop == [number]
assert signal.getsignal(number) is before
print("went on")
"""

    ended = run_alone(script, number.value)

    assert (ended.returncode, ended.stdout.splitlines()[-1:]) == (0, ["went on"]), ended.stderr


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

    ended = run_alone(script, number.value)

    assert ended.returncode == -number
    assert "without saving" in ended.stdout
    assert "still here" not in ended.stdout


def test_the_word_of_nohup_is_kept() -> None:
    script = """
import signal
from cyclegan_edge.cli.training import stop_on_signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with stop_on_signal() as stop:
    signal.raise_signal(signal.SIGHUP)
    assert not stop
"""

    assert run_alone(script).returncode == 0


@pytest.mark.parametrize("lost", ["terminal", "pipe"])
def test_a_lost_terminal_or_reader_does_not_stop_the_save(lost: str) -> None:
    """A closed ssh sends SIGHUP and makes every write an error; Ctrl-C in `train | tee` ends the reader first."""
    script = """
import signal, sys, time
from cyclegan_edge.cli.training import stop_on_signal
from cyclegan_edge.cli.console import console
with stop_on_signal() as stop:
    sys.stdout.write("ready")
    sys.stdout.flush()
    sys.stdin.read(1)
    if sys.argv[1] == "pipe":
        signal.raise_signal(signal.SIGINT)
    while not stop:
        time.sleep(0.01)
    console.print("Stopped after step 1.")
    open(sys.argv[2], "w").close()
"""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved"
        ours, theirs = pty.openpty() if lost == "terminal" else os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", HEARS_SIGHUP + script, lost, str(saved)],
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            preexec_fn=(lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)) if lost == "terminal" else None,
            start_new_session=True,
        )
        os.close(theirs)
        os.read(ours, 5)
        os.close(ours)
        process.communicate(b"x", timeout=60)

        assert saved.exists()
