"""Build the graph argv[1] with TensorRT for RTX again and again, until Ctrl-C stops one; say so once it has begun.

Run by tests/test_tensorrt_rtx.py in a process of its own: a signal concerns everything that a process holds.
"""

import signal
import sys
from pathlib import Path

from cyclegan_edge.backends.tensorrt.build import EngineConfig, build_engine
from cyclegan_edge.backends.tensorrt.library import RTX

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    told = False

    def on_progress(phase: str, done: int, total: int) -> bool:
        global told
        if not told:
            told = True
            sys.stdout.write("building\n")
            sys.stdout.flush()
        return True

    try:
        while True:
            build_engine(
                Path(sys.argv[1]), EngineConfig(shapes=((1, 64, 64),) * 3), edition=RTX, on_progress=on_progress
            )
    except KeyboardInterrupt:
        sys.stdout.write("KeyboardInterrupt\n")
