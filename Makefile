# Everyday targets: run, test, lint, bench, clean; each makes .venv first if it is missing or outdated.

SHELL := /bin/sh
.SHELLFLAGS := -ec
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
MODELS := examples/iris/models

CLUSTER_NEEDED := test-cluster needs KUBECONFIG: an API server (1.33 or newer) with a controller-manager, a scheduler and no node

.PHONY: help run test test-cluster lint format bench mutate lock crd audit sbom clean

help:
	@echo 'make run     the iris example in the foreground: model, router, autoscaler, dashboard'
	@echo 'make test    lint, types and the full test suite'
	@echo 'make test-cluster  end-to-end tests against the API server of KUBECONFIG'
	@echo 'make test-compiled  the tests of the router with its hot modules compiled; make compiled only builds them'
	@echo 'make lint    ruff and mypy only          make format   layout by ruff'
	@echo 'make bench   load tests on this machine  make lock     renew requirements.lock'
	@echo 'make crd     generate deploy/base/crd.yaml from the models'
	@echo 'make mutate  mutation tests of the decisions: list surviving mutants; MUTANTS=autoscaler.policy* for one module'
	@echo 'make audit   locked packages with known advisories   make sbom  packages of the image: dist/sbom.json'
	@echo 'make clean   remove all generated files'

# exec: scorefront replaces the shell, so it gets make's signals and its exit status is make's
run: .venv/ready $(MODELS)/ready
	@exec $(BIN)/scorefront up -f examples/iris/endpoint.yaml

# one test process per core, distributed by file (tests of a file share fixtures), in collection order: long files first
test: lint
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# the node is simulated: pods run as processes of this machine, so use an API server of a test cluster only
test-cluster: .venv/ready $(MODELS)/ready
	@[ -n "$$KUBECONFIG" ] || { echo '$(CLUSTER_NEEDED)' >&2; exit 2; }
	@$(BIN)/python -m pytest tests/cluster

lint: .venv/ready
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo 'layout differs: run make format' >&2; exit 1; }
	@$(BIN)/mypy

format: .venv/ready
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# an optimised interpreter of the same minor version: make bench BENCH='--python /usr/bin/python3'
BENCH ?=
bench: .venv/bench
	@$(MAKE) -s compiled || echo 'no compiler (Debian: gcc, python3-dev): measured without the compiled build' >&2
	@exec $(BIN)/python -m loadtests.bench $(BENCH)

# The hot modules compiled (mypyc, half a minute), in a copy: a .so beside a source file would outlive its changes.
# Ignored: their doubles stand for compiled classes, and compiled code takes only the class itself.
.PHONY: compiled test-compiled
compiled: .venv/ready
	@rm -rf build/compiled && mkdir -p build/compiled
	@tar -c --exclude=./.venv --exclude=./build --exclude=./.git . | tar -x -C build/compiled
	@cd build/compiled && SCOREFRONT_COMPILE=1 $(CURDIR)/$(BIN)/python setup.py -q build_ext --inplace

test-compiled: compiled
	@cd build/compiled && $(CURDIR)/$(BIN)/python -m pytest -n auto --dist loadfile tests/unit/router tests/integration/router \
		--ignore=tests/unit/router/test_gateway_timers.py --ignore=tests/unit/router/test_write_batch.py

# by hand: an hour on two cores; results are kept in mutants/ until the code or its tests change
MUTANTS ?=
mutate: .venv/mutate/ready
	@rm -rf mutants
	@.venv/mutate/bin/mutmut run $(if $(MUTANTS),'$(MUTANTS)'); .venv/mutate/bin/mutmut results

# uv installs in seconds what takes pip a minute. pip is the second way because uv does not read pip.conf (mirrors).
# The stamp file is touched last, so an interrupted installation is repeated.
LOCKED := --require-hashes --only-binary :all: -r requirements.lock
.venv/ready: requirements.lock pyproject.toml
	@[ -n '$(PYTHON)' ] || { echo 'scorefront needs Python 3.11 or later (Debian 12: apt-get install python3 python3-venv)' >&2; exit 1; }
	@echo 'installing into .venv (once)'
	@rm -rf .venv
	@$(PYTHON) -m venv .venv >&2 || { rm -rf .venv; \
		echo '$(PYTHON) cannot make a virtual environment (Debian: apt-get install python3-venv)' >&2; exit 1; }
	@awk '/^[a-z]/ {wanted = /^uv==/} wanted' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --only-binary :all: -r .venv/uv.lock
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python $(LOCKED) 2> .venv/uv.log || { \
		echo 'uv could not install; trying pip, with its own settings (.venv/uv.log says why)' >&2; \
		$(BIN)/python -m pip install -qq --disable-pip-version-check $(LOCKED); }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/bench: loadtests/requirements.txt .venv/ready
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
		-r loadtests/requirements.txt
	@touch $@

# a trained model is a pickle that needs the scikit-learn version that wrote it: trained with every new .venv, never committed
$(MODELS)/ready: examples/iris/train.py .venv/ready
	@$(BIN)/python examples/iris/train.py
	@touch $@

# resolves pyproject.toml for the oldest supported Python; versions in the lock stay unless UPGRADE=--upgrade; gcs is not
# locked: its dependencies are as many as those of all the rest
UPGRADE ?=
lock: .venv/ready
	@$(BIN)/uv pip compile --quiet --system-certs --python-version 3.11 --python-platform linux --only-binary :all: \
		--extra serve --extra builder --extra examples --extra k8s --extra s3 --extra azure --extra otel --extra compile --extra dev \
		--generate-hashes --no-annotate --no-header --no-emit-index-url $(UPGRADE) \
		--output-file requirements.lock pyproject.toml

# by way of a temporary file: a failure must not leave an incomplete definition
crd: .venv/ready
	@$(BIN)/python -m scorefront.print_crd > .venv/crd.yaml
	@cat .venv/crd.yaml > deploy/base/crd.yaml

# checks every locked package against PyPI's advisories: needs the network, so it is run by hand and before a release;
# --strict: a package without an answer is an error
audit: .venv/audit
	@$</bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements.lock

# CycloneDX: the packages of the image with their hashes; needs no network once the tool is installed
sbom: .venv/sbom
	@mkdir -p dist
	@PYTHONWARNINGS=ignore $</bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --validate \
		--output-file dist/sbom.json deploy/image/runtime.lock
	@echo 'dist/sbom.json'

# tools with separate environments: their dependencies must not affect those of the product
.venv/audit: TOOL := pip-audit==2.10.1
.venv/sbom: TOOL := cyclonedx-bom[validation]==7.5.0
.venv/audit .venv/sbom: .venv/ready
	@rm -rf $@
	@$(BIN)/python -m venv $@
	@$@/bin/pip install -qq --disable-pip-version-check --only-binary :all: '$(TOOL)' || { rm -rf $@; exit 1; }
	@touch $@

# a separate environment with the packages of .venv on its path, except the product itself
.venv/mutate/ready: .venv/ready
	@rm -rf .venv/mutate
	@$(BIN)/python -m venv .venv/mutate
	@.venv/mutate/bin/pip install -qq --disable-pip-version-check --only-binary :all: mutmut==3.8.1
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.venv/mutate/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/product.pth"
	@touch $@

clean:
	@rm -rf .venv mutants .scorefront $(MODELS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
