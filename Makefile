# `make env` sets up .venv; every other target does so first. Needs only Python and a C++ compiler.
PYTHON ?= python3
OUT ?= demo_out
VENV := .venv/bin
# one math thread per test process: two processes share the cores
PYTEST := OMP_NUM_THREADS=1 $(VENV)/python -m pytest

.PHONY: env test test-slow demo lint typecheck colcon clean

env:
	@$(PYTHON) tools/setup_env.py

test: env
	$(PYTEST) -m "not slow" -n 2 --dist loadfile

test-slow: env
	$(PYTEST) -m slow

demo: env
	$(VENV)/condense demo --out $(OUT)

lint: env
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

typecheck: env
	$(VENV)/mypy

colcon: env
	bash tools/colcon_check.sh

clean:
	rm -rf .venv .ws build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache
