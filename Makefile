# Every target makes its own virtual environment first; nothing has to be set up by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_OFFLINE := 1

.PHONY: demo test test-slow lint bench

demo: $(READY)
	$(BIN)/vitascope demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(READY)
	for file in benchmarks/bench_*.py; do OMP_NUM_THREADS=1 $(BIN)/python $$file || exit 1; done

# torch first and pinned: the rest would otherwise pull its newest build with several GB of CUDA packages
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt "setuptools>=77" torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@packages=$$($(BIN)/python -m pip list --format=freeze); \
	if echo "$$packages" | grep -qi '^torchvision=='; then echo "error: torchvision was installed; vitascope works without it and it breaks CPU builds of torch" >&2; exit 1; fi; \
	if [ "$$(echo "$$packages" | grep -ci '^opencv-')" -ne 1 ]; then echo "error: more than one OpenCV was installed; they overwrite each other: $$(echo "$$packages" | grep -i '^opencv-' | tr '\n' ' ')" >&2; exit 1; fi
	touch $(READY)
