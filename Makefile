# The two commands of the README are `make up` and `make test`. Everything lands in .venv, .cache and .labctl.
PYTHON ?= python3
UV := .cache/uv/bin/uv
export UV_PYTHON_DOWNLOADS := never
# The interpreter itself, also where a virtual environment is active: that may lack pip.
BASE_PYTHON := $(shell $(PYTHON) -c 'import sys; print(sys._base_executable)')
export UV_PYTHON := $(BASE_PYTHON)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SOURCES := src stacks layers tests bench tools

.PHONY: up images test lint format e2e bench clean lock-apps

up: .venv/.synced ## install what the lab needs, then bring it up on the sandbox
	labctl up --yes

images: .venv/.synced ## build the container images that the sandbox serves its guests, ahead
	labctl sandbox images

test: .venv/.synced-dev ## unit and integration tests
	pytest tests/unit tests/integration -n 2 --dist loadgroup -q

e2e: .venv/.synced-dev ## whole labs on the sandbox
	pytest tests/e2e -n 2 --dist loadgroup --no-loadscope-reorder -q --durations=25

lint: .venv/.synced-dev ## style, types, import rules
	ruff format --check $(SOURCES)
	ruff check $(SOURCES)
	mypy
	lint-imports

format: .venv/.synced-dev
	ruff format $(SOURCES)
	ruff check --fix $(SOURCES)

bench: .venv/.synced-dev ## ratios against the raw terraform processes
	python -m bench

LOCK = $(CURDIR)/$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock-apps"

lock-apps: $(UV) ## newest versions of what the apps are installed from
	cd layers/apps/mlserver && $(LOCK) --upgrade requirements-test.in --output-file requirements-test.txt
	cd layers/apps/mlserver && $(LOCK) --upgrade requirements.in --constraints requirements-test.txt --output-file requirements.txt

clean: ## stop the sandbox and remove all that was made here; asks the lab nothing
	-test -x .venv/bin/labctl && .venv/bin/labctl sandbox stop
	rm -rf .venv .cache cdktf.out

$(UV):
	$(BASE_PYTHON) -c 'import sys; sys.exit("labctl needs Python 3.11 or newer; set PYTHON=python3.x") if sys.version_info < (3, 11) else 0'
	$(BASE_PYTHON) -m pip install --quiet --disable-pip-version-check --target .cache/uv 'uv==0.13.9'

.venv/.synced: pyproject.toml uv.lock tools/extras.py | $(UV)
	$(UV) sync --locked --inexact --no-dev --compile-bytecode --extra sandbox $$($(BASE_PYTHON) tools/extras.py)
	touch $@

.venv/.synced-dev: pyproject.toml uv.lock tools/extras.py | $(UV)
	$(UV) sync --locked --inexact --compile-bytecode --extra sandbox --extra engine $$($(BASE_PYTHON) tools/extras.py)
	touch .venv/.synced $@
