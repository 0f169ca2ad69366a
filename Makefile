# Two commands matter: `make demo` and `make test`. Nothing needs root; everything stays in this directory.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
PEERS_INSTALL := .venv-bench/bin/pip install --quiet --disable-pip-version-check --no-deps
INFRA_INSTALL := .venv-infra/bin/pip install --quiet --disable-pip-version-check --no-deps
export PATH := $(CURDIR)/$(BIN):$(PATH)

# No library phones home, also not before Noria's own code could say so.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export HF_HUB_OFFLINE := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: demo test test-fast lint serve lock clean peers peers-smoke orchestrators infra

demo: .venv/base.stamp  ## data to served model, on real reviews; SCENARIO=NAME: another one, in demo/NAME
ifdef SCENARIO
demo: .venv/samples.stamp
	noria init demo/$(SCENARIO) --scenario $(SCENARIO)
	noria run -C demo/$(SCENARIO)
	noria status -C demo/$(SCENARIO)
else
	noria init . --scenario text-classification
	noria run
	noria predict "物流很快，质量很好"
endif

test: .venv/test.stamp .venv-infra/infra.stamp  ## everything this machine can run; fast tests first
	pytest -n auto -m "not slow"
	pytest -n $$(( $$(nproc) * 3 / 2 )) -m slow  # they wait much

test-fast: .venv/test.stamp
	pytest -n auto -m "not slow"

lint: .venv/test.stamp
	ruff format --check .
	ruff check .
	mypy
	lint-imports

serve: .venv/base.stamp  ## the promoted model on http://127.0.0.1:8000
	noria serve

peers: .venv-bench/peers.stamp  ## the environment of training and inference benchmarks: Noria beside its peers, one torch

peers-smoke: .venv-bench/peers.stamp  ## every peer for a few steps on tiny workloads
	.venv-bench/bin/python -m benchmarks.peers.smoke

orchestrators: .venv-orchestrators/peers.stamp  ## the peers of benchmarks/eleven_steps.py

infra: .venv-infra/infra.stamp  ## the environment of infra/'s validators

lock: .venv/test.stamp  ## resolve requirements/*.in anew; needs uv on the PATH
	python requirements/lock.py $(CPU_WHEELS)

clean:  ## back to a fresh clone: also drops the models and the store in this directory
	rm -rf .venv .venv-* .noria demo data models reports store sources/reviews sources/intake dvc.lock dvc_plots .dvc/cache .dvc/tmp
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

.venv/base.stamp: requirements/base.txt requirements/cpu.txt requirements/cuda.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Noria needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) --require-hashes -r requirements/base.txt
	@# torch: the CPU build where there is no GPU and such a build is at hand, else the CUDA build with its libraries
	{ ! command -v nvidia-smi && $(PIP_INSTALL) --require-hashes -r requirements/cpu.txt 2>/dev/null; } \
	  || $(PIP_INSTALL) --require-hashes -r requirements/cuda.txt
	$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

.venv/samples.stamp: .venv/base.stamp requirements/samples.txt
	$(PIP_INSTALL) --require-hashes -r requirements/samples.txt
	@touch $@

.venv/test.stamp: .venv/base.stamp requirements/test.txt
	$(PIP_INSTALL) --require-hashes -r requirements/test.txt
	@touch $@

.venv-bench/peers.stamp: requirements/bench.txt requirements/cpu.txt requirements/cuda.txt
	$(PYTHON) -m venv .venv-bench
	$(PEERS_INSTALL) --require-hashes -r requirements/bench.txt
	{ ! command -v nvidia-smi && $(PEERS_INSTALL) --require-hashes -r requirements/cpu.txt 2>/dev/null; } \
	  || $(PEERS_INSTALL) --require-hashes -r requirements/cuda.txt
	@touch $@

.venv-orchestrators/peers.stamp: requirements/orchestrators.txt
	$(PYTHON) -m venv .venv-orchestrators
	.venv-orchestrators/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

.venv-infra/infra.stamp: requirements/infra.txt
	$(PYTHON) -m venv .venv-infra
	$(INFRA_INSTALL) --require-hashes -r requirements/infra.txt
	@touch $@
