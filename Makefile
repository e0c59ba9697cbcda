# Every target makes its own virtual environment: `git clone`, then `make demo` or `make test`, is all.
# PY names the interpreter, e.g. `make test-robot PY=python3.10`.
PY ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
ROBOT_VENV := .venv-robot-$(PY)
ROBOT_TESTS := $(wildcard tests/zoo tests/contract tests/hardware tests/data tests/runtime)
ISAAC_VENV := .venv-isaac
ISAAC_TESTS := $(addprefix tests/sim/test_,isaac.py physics.py physics_go2.py parity.py)
ARGS ?=
# Tests start many processes; where bytecode is not kept each of them compiles all of torch, ten seconds, anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test check format test-all test-robot test-warp test-isaac bench wheel

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  */  make \1: /p' $(MAKEFILE_LIST)

$(VENV)/.stamp-run: pyproject.toml
	@.ci/bootstrap $(VENV) $(PY) all $@

$(VENV)/.stamp-dev: pyproject.toml
	@.ci/bootstrap $(VENV) $(PY) all,dev $@

$(VENV)/.stamp-warp: $(VENV)/.stamp-dev
	$(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile --editable ".[gpu]"
	@touch $@

$(ROBOT_VENV)/.stamp: pyproject.toml
	@.ci/bootstrap $(ROBOT_VENV) $(PY) test-robot $@

$(ISAAC_VENV)/.stamp: pyproject.toml .ci/bootstrap-isaac
	@.ci/bootstrap-isaac $(ISAAC_VENV) $(PY) $@

demo: $(VENV)/.stamp-run  ## the whole life of one policy: walk, break the robot, fine-tune, swap live
	$(BIN)/robot-rl demo $(ARGS)

test: $(VENV)/.stamp-dev  ## the default tests (ARGS="tests/contract -k golden")
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: $(VENV)/.stamp-dev  ## every test, the slow ones too
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest $(ARGS)

test-robot: $(ROBOT_VENV)/.stamp  ## the robot side with the light core only (PY=python3.10)
	$(ROBOT_VENV)/bin/python -m pytest -m "not slow" $(ROBOT_TESTS) $(ARGS)

test-warp: $(VENV)/.stamp-warp  ## the GPU backend (MuJoCo Warp) on CPU: conformance, parity, sim-to-sim gate
	$(BIN)/python -m pytest tests/sim -k mujoco_gpu --timeout 1200 $(ARGS)  # the first test compiles the kernels

test-isaac: $(ISAAC_VENV)/.stamp  ## Isaac Lab 3.0 (Newton, CPU) in an environment of its own: conformance, parity, tasks
	$(ISAAC_VENV)/bin/python -m pytest $(ISAAC_TESTS) -k isaac --timeout 1200 $(ARGS)  # the first tests compile kernels

check: $(VENV)/.stamp-dev  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.stamp-dev  ## format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.stamp-dev  ## every benchmark, one JSON line each
	@for name in env tick replay learner ppo wire; do $(BIN)/robot-rl bench $$name $(ARGS) || exit 1; done

wheel: $(VENV)/.stamp-dev  ## build dist/*.whl and the sdist
	$(BIN)/python -m build --no-isolation --outdir dist .
