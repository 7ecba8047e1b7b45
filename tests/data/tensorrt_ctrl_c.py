"""Build with the fake TensorRT, say so, and go on until Ctrl-C; argv: a compiled fake_cudart.c.

Run by tests/test_tensorrt_flow.py in a process of its own: a signal concerns everything that a process holds.
"""

import ctypes
import runpy
import signal
import sys
import time
from pathlib import Path

from cyclegan_edge.backends.cuda import Cuda
from cyclegan_edge.backends.tensorrt import library
from cyclegan_edge.backends.tensorrt.build import EngineConfig, build_engine

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    made = runpy.run_path(str(Path(__file__).parent / "fake_tensorrt.py"))
    fake = made["Fake"](made["VERSIONS"][0], ctypes.CDLL(sys.argv[1]))
    sys.modules["tensorrt"] = fake.module
    cuda = Cuda(sys.argv[1], driver=sys.argv[1])
    vars(library)["load_cuda"] = lambda: cuda

    def go_on() -> None:
        sys.stdout.write("building\n")
        sys.stdout.flush()
        while fake.config.progress_monitor.step_complete("tactics", 0):
            time.sleep(0.01)

    fake.during_build = go_on
    try:
        build_engine(Path("generator.onnx"), EngineConfig(shapes=made["SHAPES"]))
    except KeyboardInterrupt:
        sys.stdout.write(f"KeyboardInterrupt, and the next steps were answered {fake.steps}\n")
