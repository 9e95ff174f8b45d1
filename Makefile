PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WITH := $(VENV)/.with-
EXTRAS := synthetic,dashboard,tensorrt-rtx,cluster,peers,docs,dev
UV := $(BIN)/python tools/uv_like_pip.py
CODE := src tests benchmarks examples tools docs/hooks
STUDIES ?= multirun/studies.journal
# One thread each: tests that run beside each other would wait for each other's threads. What is compiled is kept, also
# where Python may not keep it.
TESTED = $(VENV)
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(TESTED)/bin/pytest --numprocesses auto --dist worksteal

.DEFAULT_GOAL := help
.NOTPARALLEL: # installations into .venv would get into each other's way

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(WITH)$(EXTRAS) ## Create .venv and install everything into it

$(BIN)/uv: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	touch $@

# A stamp: the package is installed with the extras that the stamp is named by.
$(WITH)%: $(BIN)/uv pyproject.toml constraints.txt
	$(UV) pip install --constraint constraints.txt --editable '.[$*]'
	touch $@

# Tests start many processes, which compile nothing then.
$(WITH)$(EXTRAS): export UV_COMPILE_BYTECODE := 1

.PHONY: demo
demo: $(WITH)synthetic ## Measure the paper's per-unit table with real INT8 engines (synthetic speech, a few minutes)
	$(BIN)/speakerquant experiment=per_unit

.PHONY: test
test: setup ## Run the tests, but those of clusters and releases
	$(PYTEST) -m "not cluster and not release"

.PHONY: test-cluster
test-cluster: setup ## Run the tests on launchers and real servers: SLURM, Ray, PostgreSQL, MLflow (those installed)
	$(PYTEST) --dist loadfile -m cluster

.PHONY: test-release
test-release: setup ## Run the tests on what a release is made of: packages, site, examples
	$(PYTEST) --dist loadfile -m release

.PHONY: test-fast
test-fast: setup ## Run the tests that take seconds
	$(PYTEST) -m "not slow"

# Both try other versions than those of constraints.txt, in an environment of their own.
test-oldest update: export UV_COMPILE_BYTECODE := 1
test-oldest update: TESTED = build/$@
define INSTALL_ANEW
rm -rf $(TESTED)
$(PYTHON) -m venv $(TESTED)
$(UV) pip install --python $(TESTED) --editable '.[$(EXTRAS)]' $(RESOLUTION)
endef

.PHONY: test-oldest
test-oldest: RESOLUTION := --resolution lowest-direct
test-oldest: $(BIN)/uv ## Run the tests that take seconds with the oldest versions that pyproject.toml allows
	$(INSTALL_ANEW)
	$(PYTEST) -m "not slow"

.PHONY: update
update: $(BIN)/uv ## Pin the newest versions that pyproject.toml allows, if the tests that take seconds pass with them
	$(INSTALL_ANEW)
	$(UV) pip freeze --python $(TESTED) --exclude-editable --exclude pip > build/constraints.txt
	diff constraints.txt build/constraints.txt || true
	$(PYTEST) -m "not slow"
	mv build/constraints.txt constraints.txt

.PHONY: lint
lint: $(WITH)cluster,dev ## Check style, formatting, types and layers
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs
docs: $(WITH)docs ## Build the documentation site, site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: ui
ui: $(WITH)synthetic ## Show the runs in MLflow's UI, on port 5000
	$(BIN)/speakerquant-ui

.PHONY: dashboard
dashboard: $(WITH)dashboard ## Open Optuna's dashboard on the searches, http://localhost:8080
	$(BIN)/optuna-dashboard --host 127.0.0.1 --port 8080 $(STUDIES)

.PHONY: gpu-proof
gpu-proof: ## Prove TensorRT on this machine's NVIDIA GPU (eight minutes, no network)
	PYTHONPATH=src $(firstword $(wildcard $(BIN)/python) $(PYTHON)) benchmarks/gpu_proof.py

.PHONY: dist
dist: $(WITH)dev ## Build wheel and source distribution, and check them in an empty environment
	rm -rf dist build/release
	$(UV) build --quiet
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(PYTHON) -m venv --without-pip build/release
	$(UV) pip install --python build/release --constraint constraints.txt dist/*.whl
	SPEAKERQUANT_RELEASE=build/release $(BIN)/pytest tests/test_packaging.py

.PHONY: clean
clean: ## Remove the environment, outputs and tool caches (recorded runs and corpora stay)
	rm -rf $(VENV) outputs build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find $(CODE) -name __pycache__ -type d -exec rm -rf {} +
