# Everything runs in .venv, from the locked versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := train evaluate distill export ncnn openvino video tensorrt-rtx web test
BINDINGS := $(addprefix build/bindings/, \
  cu12-10.3.0 cu12-10.7.0 cu12-10.13.3.9 cu12-10.16.1.11 cu13-11.0.0.114 cu13-11.4.0.106)
SOURCES := $(shell find csrc -name '*.[ch]pp') CMakeLists.txt pyproject.toml constraints.txt
comma := ,
empty :=
space := $(empty) $(empty)

.PHONY: demo test bindings check sanitize test-neon fuzz lock clean

demo: .venv/installed  ## train, export and translate end to end, no GPU, camera or download
	$(BIN)/cyclegan-edge demo --out demo

test: bindings  ## the tests
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

bindings: $(BINDINGS)  ## TensorRT's Python bindings, without TensorRT: the tests check our calls against them

build/bindings/%: | .venv/installed  # cu12-10.3.0 is tensorrt_cu12_bindings 10.3.0; without a network its tests skip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 10 --no-deps --target $@ \
	  tensorrt_$(firstword $(subst -, ,$*))_bindings==$(lastword $(subst -, ,$*)) \
	  || { rm -rf $@; echo "TensorRT's bindings $* are not there for this Python; their tests will skip."; }

check: .venv/installed  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

sanitize:  ## the C++ tests under AddressSanitizer and UBSan
	cmake -S tests/cpp -B build/sanitize -DSANITIZE=ON
	cmake --build build/sanitize
	build/sanitize/test_kernels 500

test-neon:  ## the C++ tests for aarch64, in an emulator
	cmake -S tests/cpp -B build/arm -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
	cmake --build build/arm
	qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max build/arm/test_kernels 2000

fuzz:  ## ten minutes of random geometry and pixels under the sanitizers
	cmake -S tests/cpp -B build/fuzz -DFUZZ=ON -DCMAKE_CXX_COMPILER=clang++
	cmake --build build/fuzz
	mkdir -p build/fuzz/corpus
	build/fuzz/fuzz_resize -max_total_time=600 -max_len=2048 build/fuzz/corpus

lock: .venv/installed  ## renew constraints.txt for Python 3.10 to 3.13
	$(BIN)/pip install uv
	mkdir -p build
	printf '%s\n' 'torch==2.14.*' 'torchvision==0.29.*' > build/pairs.txt  # the two are released in pairs
	$(BIN)/uv pip compile pyproject.toml --constraint build/pairs.txt --quiet --universal --python-version 3.10 --no-header --no-annotate \
	  $(addprefix --extra ,$(EXTRAS)) --output-file constraints.txt

.venv/installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$(subst $(space),$(comma),$(EXTRAS))]'
	touch $@

clean:  ## what the build and the demo left; .venv, runs and models stay
	rm -rf build demo .mypy_cache .pytest_cache .ruff_cache
