# Everything a developer types.  One environment, .venv, gets layer by layer what a target needs; the locks agree with
# each other.  Environments for other interpreters and for benchmarks lie beside it.

PYTHON ?= python3
OTHER_PYTHONS := 3.12 3.13
VENV := .venv
PIP := python -m pip --disable-pip-version-check --quiet
# Locks are complete: pip resolves nothing, which it gets wrong for extras once there is a newer version.
INSTALL := $(PIP) install --require-hashes --no-deps
SELF := $(PIP) install --no-deps --no-build-isolation --editable .
PYTEST := python -m pytest -n 2
WITHOUT_SERVERS := not long and not crash and not server

.PHONY: demo kafka test test-fast test-others test-long mutants simulate chaos lint format bench bench-report wheel lock clean

demo: $(VENV)/.demo
	$(VENV)/bin/runstream demo

# A broker for trying things out, at 127.0.0.1:$(PORT); what it holds stays.
PORT ?= 9092
kafka: $(VENV)/.test
	.ci/install-components kafka
	@PYTHONPATH=tests $(VENV)/bin/python -m support.kafka_local $(PORT)

test: $(VENV)/.test .venv-mlflow/.mlflow
	.ci/install-components
	$(VENV)/bin/$(PYTEST) -m "not long" --cov --cov-report=term --cov-fail-under=95

test-fast: $(VENV)/.test
	HYPOTHESIS_PROFILE=fast $(VENV)/bin/$(PYTEST) -m "$(WITHOUT_SERVERS) and not slow"

# What needs no server on every other interpreter that this machine has; one that it has not is named, and is no failure.
test-others: $(OTHER_PYTHONS:%=test-on-%)

test-on-%:
	@if python=$$(.ci/find-python $*); then \
		$(MAKE) --no-print-directory VENV=.venv-$* PYTHON="$$python" .venv-$*/.test && \
		echo "Tests on CPython $*" && \
		HYPOTHESIS_PROFILE=fast .venv-$*/bin/$(PYTEST) -m "$(WITHOUT_SERVERS)"; \
	else \
		echo "CPython $* is not on this machine: its tests are left out"; \
	fi

# LONG names some of the long tests.
test-long: $(VENV)/.test .venv-mlflow/.mlflow .venv-mlflow-previous/.mlflow-previous
	HYPOTHESIS_PROFILE=long $(VENV)/bin/$(PYTEST) -m long --exitfirst $(LONG)

# Any number of schedules of the simulation; SEED=n runs one again.
simulate: $(VENV)/.test
	PYTHONPATH=tests $(VENV)/bin/python -m support.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100))

# Any number of rounds of chaos with real brokers; SEED=n is the first one's seed, ROUNDS=1 by default.
chaos: $(VENV)/.test
	.ci/install-components
	PYTHONPATH=tests $(VENV)/bin/python -m support.chaos --rounds $(or $(ROUNDS),1) $(if $(SEED),--seed $(SEED))

# Sampled, since all of the mutants take hours.
mutants: $(VENV)/.test
	$(VENV)/bin/python tests/mutation/run.py --sample 60 --jobs 2

lint: $(VENV)/.test $(VENV)/.lint
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

format: $(VENV)/.lint
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

# QUICK=1 takes minutes and gives rough figures; PEERS=1 measures other loggers too; ONLY names some of the benchmarks.
bench: .venv-bench/.bench $(if $(PEERS),.venv-bench/.peers)
	.ci/install-components bench
	.venv-bench/bin/python bench/run.py $(if $(QUICK),--quick) $(if $(PEERS),--peers) $(if $(ONLY),--only $(ONLY))

# The page of figures, from what `make bench PEERS=1` left in build/bench; ANY=commit takes those of several commits.
bench-report: .venv-bench/.bench
	.venv-bench/bin/python bench/report.py $(ANY:%=--any-%)

wheel: $(VENV)/.test
	rm -rf dist
	$(VENV)/bin/$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

# What the locks hold is decided by pyproject.toml alone.  They are universal: one file for every supported interpreter.
LOCK := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-header --no-emit-index-url --no-emit-find-links
SINK := pyproject.toml --extra sink --group build

lock: .venv-lock/.lock
	$(LOCK) $(SINK) --extra kafka --extra demo --group test -o requirements/test.txt
	$(LOCK) $(SINK) --extra demo -c requirements/test.txt -o requirements/demo.txt
	$(LOCK) --group lint -c requirements/test.txt -o requirements/lint.txt
	$(LOCK) $(SINK) --extra kafka --group mlflow -o requirements/mlflow.txt
	$(LOCK) --group mlflow-previous -o requirements/mlflow-previous.txt
	$(LOCK) $(SINK) --extra kafka --group bench --group peers -o requirements/bench-peers.txt
	$(LOCK) $(SINK) --extra kafka --group bench -c requirements/bench-peers.txt -o requirements/bench.txt
	$(LOCK) --group lock -o requirements/lock.txt

clean:
	rm -rf .venv .venv-* build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		runstream-data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is renewed when its lock or the project's metadata changes.
.SECONDARY:

$(VENV)/bin/python .venv-bench/bin/python .venv-mlflow/bin/python .venv-mlflow-previous/bin/python .venv-lock/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "runstream needs CPython 3.11 or later: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(@D:/bin=)

$(VENV)/.%: requirements/%.txt pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/$(INSTALL) --requirement $<
	$(if $(filter demo test,$*),$(VENV)/bin/$(SELF))
	@touch $@

.venv-bench/.bench: requirements/bench.txt pyproject.toml | .venv-bench/bin/python
	.venv-bench/bin/$(INSTALL) --requirement $<
	.venv-bench/bin/$(SELF)
	@touch $@

# What the benchmarks compare with where PEERS=1 asks for it: many packages, some of them large.
.venv-bench/.peers: requirements/bench-peers.txt .venv-bench/.bench
	.venv-bench/bin/$(INSTALL) --requirement $<
	@touch $@

# MLflow itself, which tests compare us with: apart, so that what it needs decides nothing for us.
.venv-mlflow/.mlflow: requirements/mlflow.txt pyproject.toml | .venv-mlflow/bin/python
	.venv-mlflow/bin/$(INSTALL) --requirement $<
	.venv-mlflow/bin/$(SELF)
	@touch $@

# The client of the version before: nothing of ours is in it.
.venv-mlflow-previous/.mlflow-previous: requirements/mlflow-previous.txt pyproject.toml | .venv-mlflow-previous/bin/python
	.venv-mlflow-previous/bin/$(INSTALL) --requirement $<
	@touch $@

.venv-lock/.lock: requirements/lock.txt | .venv-lock/bin/python
	.venv-lock/bin/$(INSTALL) --requirement $<
	@touch $@
