# `make` lists the targets. Needs make and Python 3.11 or newer; everything else goes into $(VENV).

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.PHONY: help lab hello test check style types floors fix notebooks bench bench-plane bench-kv bench-simulate wheel clean

help: ## List these targets
	@echo "dynlab: make TARGET [ARGS='more arguments'] [PYTHON=python3] [VENV=.venv]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: $(VENV)/.lab ## Set up what is missing, then open the notebooks in JupyterLab
	$(BIN)/dynlab lab $(ARGS)

hello: $(VENV)/.lab ## Set up what is missing, then run the graph once and draw where its requests went
	$(BIN)/dynlab hello $(ARGS)

test: $(VENV)/.dev ## Run every test on up to 4 cores, and say what was skipped and why (ARGS='-n 0 -k NAME')
	$(BIN)/python -m pytest -ra -n auto --maxprocesses 4 --dist loadfile $(ARGS)

check: style types floors ## Style, format, types and floors

style: $(VENV)/.dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(VENV)/.dev
	$(BIN)/python -m mypy

floors: $(VENV)/.dev
	$(BIN)/python -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

fix: $(VENV)/.dev ## Let ruff mend what it can of style and format
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

notebooks: $(VENV)/.dev ## Execute the notebooks, nothing else
	$(BIN)/python -m pytest -ra -m notebook $(ARGS)

bench: $(VENV)/.dev ## Measure the graph beside apps without tiers; needs wrk (ARGS='--quick --only rate,cpu --json FILE')
	$(BIN)/python tests/bench/bench_graph.py $(ARGS)

bench-plane: $(VENV)/.dev ## Measure the request plane alone beside two plainer ways to cross threads
	$(BIN)/python tests/bench/bench_plane.py $(ARGS)

bench-kv: $(VENV)/.dev ## Measure KV routing beside the real engine's
	$(BIN)/python tests/bench/bench_kv.py $(ARGS)

bench-simulate: $(VENV)/.dev ## Measure simulated runs beside SimPy (ARGS='--trace FILE' adds one of Mooncake's)
	$(BIN)/python tests/bench/bench_simulate.py $(ARGS)

wheel: $(VENV)/.dev ## Build the source distribution and the wheel into dist/
	$(BIN)/python -m build --outdir dist

clean: ## Remove the virtual environment, builds and caches
	@if [ -f "$(VENV)/pyvenv.cfg" ]; then rm -rf "$(VENV)"; fi
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find dynlab tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------- set-up
# .made: the virtual environment; .lab: what a reader needs; .dev: what tests and checks need on top.
# One after the other, so that `make -j` never runs two pips in one environment.

# An environment remembers its folder: install again where the folder was moved or copied.
ifneq "$(shell cat $(VENV)/.made 2>/dev/null)" "$(CURDIR)"
.PHONY: $(VENV)/.made
endif

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "dynlab needs Python 3.11 or newer, and '$(PYTHON)' was not found. Install it, or name yours: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "dynlab needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv. Then run this again." >&2; exit 1; }
	@$(PYTHON) -m venv "$(VENV)"
	@echo "$(CURDIR)" > $@

$(VENV)/.lab: $(VENV)/.made pyproject.toml
	@echo "Installing dynlab and what it needs into $(VENV) (first time: a minute or two) ..."
	@$(PIP) install -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.lab pyproject.toml
	@echo "Installing what the tests need into $(VENV) ..."
	@$(PIP) install -e '.[test,dynamo]'
	@touch $@
