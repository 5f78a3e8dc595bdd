# Two commands for a newcomer: `make run` and `make test`. Everything lands in .venv and in ignored folders.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: run test check bench chaos format clean constraints help

help:
	@sed -n 's/^## //p' Makefile

## make run    install, then the whole pipeline on generated patients, up to a demo in the browser
run: .venv/installed
	$(BIN)/python scripts/run_full_pipeline.py --mode full --training-mode quick $(ARGS)

## make test   install, then the whole test suite
test: .venv/installed-dev
	$(BIN)/python -m pytest $(ARGS)

## make check  format, lint, types and the floors of the architecture
check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## make bench  ratios of speed, each pair measured side by side
bench: .venv/installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

## make chaos  kill many runs at many moments; each must end as if nobody had
chaos: .venv/installed-dev
	$(BIN)/python -m tests.chaos $(ARGS)

## make format let ruff put things right
format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## make clean  delete superseded outputs and unfinished work of the pipeline
clean: .venv/installed
	$(BIN)/slicewise clean

## make constraints  pin the newest versions that fit pyproject.toml (torch stays at 2.14)
constraints: .venv/bin/uv
	(echo "# Exact versions of everything the project installs. Made by: make constraints"; \
	echo "torch==2.14.*" | $(BIN)/uv pip compile --quiet --upgrade pyproject.toml --all-extras --constraint - \
	  --no-emit-index-url --no-header --no-annotate; $(BIN)/uv --version | sed 's/^uv \([^ ]*\).*/uv==\1/') > constraints.new
	mv constraints.new constraints.txt

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv

# Bytecode is written once, here: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every start would
# compile torch anew. uv installs in seconds what takes pip minutes; pip stands in where uv cannot reach the index.
.venv/installed .venv/installed-dev .venv/installed-bench: .venv/bin/uv pyproject.toml constraints.txt
	@extras=$(if $(findstring dev,$@),serving$(comma)dev,$(if $(findstring bench,$@),serving$(comma)dev$(comma)bench,serving)); \
	echo "installing slicewise[$$extras] into .venv"; \
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e ".[$$extras]" || \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$$extras]"
	@$(BIN)/python -m compileall -q src
	@touch $@

comma := ,
