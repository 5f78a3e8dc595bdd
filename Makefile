# Two commands for a newcomer: `make run` and `make test`. Everything lands in .venv and in ignored folders.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: run test test-fast check docs bench brats snakemake chaos fuzz audit format clean constraints locks pm2 help

help:
	@sed -n 's/^## //p' Makefile

## make run    install, then the whole pipeline on generated patients, up to a demo in the browser
run: .venv/installed
	$(BIN)/python scripts/run_full_pipeline.py --mode full --training-mode quick $(ARGS)

## make test   install, then the whole test suite, on two cores at a time; 92 % of the branches must be covered
test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(or $(ARGS),--cov --cov-fail-under=92 --cov-report=term)

## make test-fast  the part of the suite that needs no browser and no whole pipelines, in about two minutes
test-fast: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow and not browser" $(ARGS)

## make check  format, lint, types, the layers of the architecture, unused code and dependencies
check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/deptry src

## make docs   the pages as a site in build/docs, without a network; a broken link is an error
docs: .venv/installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/docs/index.html"

## make bench  ratios of speed, each pair measured side by side
bench: .venv/installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

## make brats  our scores of BraTS regions against the official package: AGPL, so in an environment of its own
brats: .venv/installed-dev .venv-brats/installed
	$(BIN)/python -m pytest tests/metrics/test_lesions.py $(ARGS)

## make snakemake  run an exported plan by Snakemake, which needs other versions than ours: in an environment of its own
snakemake: .venv/installed-dev .venv-snakemake/installed
	$(BIN)/python -m pytest tests/cli/test_export_plan.py $(ARGS)

.venv-snakemake/installed: requirements/snakemake.lock
	$(PYTHON) -m venv .venv-snakemake
	.venv-snakemake/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/snakemake.lock
	@touch $@

.venv-brats/installed: requirements/brats.lock
	$(PYTHON) -m venv .venv-brats
	.venv-brats/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/brats.lock
	@touch $@

## make pm2    PM2 for its tests, with the hashes of its lock; needs npm
pm2: requirements/pm2/node_modules/.package-lock.json

requirements/pm2/node_modules/.package-lock.json: requirements/pm2/package.json requirements/pm2/package-lock.json
	npm ci --prefix requirements/pm2 --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

## make chaos  kill many runs at many moments; each must end as if nobody had
chaos: .venv/installed-dev
	$(BIN)/python -m tests.chaos $(ARGS)

## make format format the code and apply the fixes of ruff
format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## make clean  delete superseded outputs; the work of stopped steps stays
clean: .venv/installed
	$(BIN)/slicewise clean

## make fuzz   hostile bytes, guided by coverage, against everything that reads foreign files
fuzz: .venv/installed-fuzz
	$(BIN)/python -m tests.fuzz $(ARGS)

## make audit  list the pinned versions that have a known vulnerability
audit: .venv/installed-audit
	$(BIN)/python scripts/utils/audit.py

## make constraints  pin the newest versions that fit pyproject.toml (torch stays at 2.14), then their hashes
constraints: .venv/bin/uv
	(set -e; echo "# Exact versions of everything the project installs. Made by: make constraints"; \
	echo "torch==2.14.*" | $(BIN)/uv pip compile --quiet --upgrade pyproject.toml --all-extras --constraint - \
	  --no-emit-index-url --no-header --no-annotate; $(BIN)/uv --version | sed 's/^uv \([^ ]*\).*/uv==\1/') > constraints.new
	mv constraints.new constraints.txt
	$(MAKE) locks

## make locks  the hashes of what constraints.txt pins, into requirements/
locks: .venv/bin/uv
	$(BIN)/python scripts/utils/lock_requirements.py

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock

# Bytecode is written once, here: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every start would
# compile torch anew. uv installs in seconds what takes pip minutes; pip stands in where uv cannot reach the index.
# Every file that is installed has the SHA-256 that its lock names; the project itself is built by the locked setuptools.
.venv/installed .venv/installed-dev .venv/installed-bench .venv/installed-fuzz .venv/installed-audit .venv/installed-docs: \
		.venv/bin/uv pyproject.toml $(wildcard requirements/*.lock)
	@lock=requirements/$(or $(patsubst .venv/installed-%,%,$(filter .venv/installed-%,$@)),serving).lock; \
	echo "installing $$lock into .venv"; \
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
	  --build-constraints requirements/pipeline.lock -r $$lock || \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $$lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . || \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src
	@touch $@
