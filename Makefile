# `make help` lists the targets. Works with GNU make 3.81 and newer, on Linux and macOS.
# Variables: PYTHON=python3.13 picks the interpreter, VENV=.venv the environment, ARGS="-k name" goes to pytest.

VENV ?= .venv
PYTHON ?=
ARGS ?=
WORKERS ?= 2
export VENV PYTHON

BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test test-unit test-contract test-integration test-programs test-faults test-simulation simulate test-stores test-bench test-charts test-tilt tilt-ci charts images kind-up minikube-up kind-load minikube-load install uninstall torture torture-short torture-k8s test-torture test-security fuzz e2e bench bench-check bench-growth check lint types fmt docs lock audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

setup: ## Create or update the virtual environment (every target does it when needed)
	@script/setup

dev: setup ## Start the whole system here and show its logs; Ctrl-C stops it
	@$(BIN)/twitter dev

DEMO_DATA ?= ../shared/data
DEMO_INPUT = $(if $(wildcard $(DEMO_DATA)/tweets.txt),--graph $(DEMO_DATA)/socfb-Reed98.edges --tweets $(DEMO_DATA)/tweets.txt)

demo: setup ## Start the system, load real input, and print what a reader sees and a summary
	@$(BIN)/twitter demo $(DEMO_INPUT) $(ARGS)

test: check ## Run everything: check, then the unit, contract and integration tests
	$(PYTEST) $(ARGS)

test-unit: setup ## Run the unit tests (no I/O, seconds)
	$(PYTEST) tests/unit $(ARGS)

test-contract: setup ## Run the contract tests
	$(PYTEST) tests/contract $(ARGS)

test-integration: setup ## Run the integration tests (real Valkey, SQLite and processes)
	$(PYTEST) tests/integration $(ARGS)

test-bench: setup ## Run the tests of the benchmark: it runs, at a tiny size (needs wrk)
	$(PYTEST) tests/bench $(ARGS)

test-charts: setup ## Run the tests of the charts (helm, nginx and promtool: tests/charts/get-tools DIRECTORY fetches them)
	$(PYTEST) tests/charts $(ARGS)

test-tilt: setup ## Run the tests of Tiltfile and skaffold.yaml (with helm, as for test-charts; Tilt is not needed)
	$(PYTEST) tests/tilt $(ARGS)

test-programs: setup ## Run the tests of whole programs: the twitter command, the scripts, what a service installs (minutes)
	$(PYTEST) tests/programs $(ARGS)

test-faults: setup ## Run the fault tests: processes killed, paused and starved, Redis losing data (real processes, minutes)
	$(PYTEST) tests/faults $(ARGS)

SECONDS ?= 600
SEED ?= 1

torture: setup ## Clients, a nemesis on every process, and a checker: ten minutes (SECONDS=600 SEED=1; ARGS="--lanes 4")
	$(BIN)/python -m tests.torture.run --seconds $(SECONDS) --seed $(SEED) $(ARGS)

torture-short: setup ## The same for half a minute
	$(BIN)/python -m tests.torture.run --seconds 35 --seed $(SEED) $(ARGS)

torture-k8s: setup ## The same clients and checker on a real cluster, with pods and the owner's node as victims (as e2e)
	TORTURE_SECONDS=$(SECONDS) TORTURE_SEED=$(SEED) tests/e2e/run $(BIN)/python -k under_torture $(ARGS)

test-security: setup ## Attack the system: every route with every kind of token, HTTP, sign-ins, decoders (with nginx, as for test-charts)
	$(PYTEST) --dist loadfile tests/security $(ARGS)

fuzz: setup ## Give every decoder new made-up inputs for ten minutes (SECONDS=600), and count them
	$(BIN)/python -c 'from tests.security.test_fuzz import main; main($(SECONDS))'

test-torture: setup ## Plant known defects, which the checker must find, and faults at every label in the code (minutes)
	$(PYTEST) tests/torture $(ARGS)

test-simulation: setup ## Run the tests of the simulation: its model of Redis against a real one, and defects that it must find
	$(PYTEST) tests/simulation $(ARGS)

SEEDS ?= 1000

simulate: setup ## Simulate the system under faults, a schedule a seed: SEEDS=1000 of them, or SEED=7 with what happens in it
	@PYTHONHASHSEED=0 $(BIN)/python -m tests.simulation $(if $(filter file,$(origin SEED)),--seeds $(SEEDS),--seed $(SEED)) $(ARGS)

API_TESTS := $(addprefix tests/integration/,test_system.py test_read_api.py)

test-stores: setup ## Run the tests on PostgreSQL and of shared readers, the API on both, and owners killed on PostgreSQL
	$(PYTEST) tests/stores $(ARGS)
	TEST_READ_STORE=shared $(PYTEST) $(API_TESTS) $(ARGS)
	TEST_READ_STORE=shared TEST_DATABASE=postgresql $(PYTEST) $(API_TESTS) tests/contract/test_openapi.py \
		tests/integration/test_accounts.py tests/integration/test_owner_idempotency.py \
		tests/faults/test_idempotency.py tests/faults/test_owner_crashes.py $(ARGS)

e2e: setup ## Build the images and run the tests on a real cluster: KUBECONFIG's, or the developers' test cluster
	tests/e2e/run $(BIN)/python $(ARGS)

BENCH := $(BIN)/python -m bench

bench: setup ## Measure the system against its baselines and write docs/performance.md (needs wrk, a quiet machine, ten minutes)
	$(BENCH) --output bench/results/bench.json $(ARGS); status=$$?; $(BENCH).report && exit $$status

RATIOS := tweet_hot,tweet_uniform,timeline_hot,timeline_uniform,post,post_alone,like,catching_up,home

bench-check: setup ## Measure the ratios again; fails when one is worse than the committed ones by more than the noise
	$(BENCH) --only $(RATIOS) --against bench/results/bench.json $(ARGS)

bench-growth: setup ## Measure how cost grows with data, connections, batches, readers and the log, and write that page
	$(BENCH).growth --output bench/results/growth.json $(ARGS); status=$$?; $(BENCH).report && exit $$status

tilt-ci: ## Try the Tiltfile with the real Tilt, in a namespace of its own (ARGS="--build-network host": its settings)
	tilt/ci $(ARGS)

# ---- Kubernetes: docker, helm 3.17 or newer, kubectl, and kind or minikube are yours to install ----

REGISTRY ?=
TAG ?=
RELEASE ?= tw
NAMESPACE ?= twitter-clone
VALUES ?= k8s/values/kind.yaml
CHARTS ?= charts
export REGISTRY TAG

charts: ## Build the charts in place (fetches the Redis chart from ghcr.io)
	charts/build

images: ## Build the four images; with REGISTRY=localhost:5001 push them there (TAG=dev: another tag than the charts' version)
	script/images

kind-up: ## Start a kind cluster with a registry at localhost:5001 and its Ingress at http://localhost/
	k8s/kind/up

minikube-up: ## Start a minikube cluster with its Ingress
	k8s/minikube/up

kind-load: images ## Build the images and put them into the kind cluster's node, without a registry
	kind load docker-image --name twitter-clone $$(script/images --list)

minikube-load: images ## Build the images and put them into the minikube cluster's node
	minikube --profile twitter-clone image load $$(script/images --list)

install: ## Install or upgrade RELEASE=tw in NAMESPACE=twitter-clone of kubectl's cluster, with VALUES=k8s/values/kind.yaml
	@echo "into the cluster of the context $$(kubectl config current-context)"
	helm upgrade --install $(RELEASE) $(CHARTS)/twitter-clone --namespace $(NAMESPACE) --create-namespace \
		--values $(VALUES) --set-string global.image.registry=$(REGISTRY),global.image.tag=$(TAG) --wait --timeout 10m $(ARGS)

uninstall: ## Uninstall RELEASE=tw from NAMESPACE=twitter-clone; its volumes and secrets stay
	@echo "from the cluster of the context $$(kubectl config current-context)"
	helm uninstall $(RELEASE) --namespace $(NAMESPACE) --ignore-not-found --wait $(ARGS)
	@echo "to give the data up, too: kubectl delete namespace $(NAMESPACE)"

check: lint types ## Run every check that needs no test: lint and types

lint: setup ## Check formatting, lint rules, the direction of imports, and tables made from the code
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/lint-imports --no-logo
	$(BIN)/python script/reference --check
	$(BIN)/python script/licences --check

types: setup ## Check types with mypy --strict
	$(BIN)/mypy

fmt: setup ## Format the code and repair what the linter can repair
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: setup ## Write what is made from the code: tables of README.md and docs, the licences, the dashboards
	$(BIN)/python script/reference
	$(BIN)/python script/licences
	$(BIN)/python script/dashboards

audit: setup ## Look for known vulnerabilities of the locked packages (asks PyPI; not a part of check)
	$(BIN)/uvx pip-audit@2.10.1 --strict --disable-pip --require-hashes -r requirements.txt -r requirements-dev.txt $(ARGS)

COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

lock: setup ## Write requirements.txt and requirements-dev.txt from pyproject.toml (ARGS=--upgrade for newer versions)
	$(COMPILE) --extra cli --extra postgresql $(ARGS) --output-file requirements.txt
	$(COMPILE) --extra dev --constraint requirements.txt $(ARGS) --output-file requirements-dev.txt

clean: ## Remove the environment and the caches, never ./data
	rm -rf $(VENV) .tools .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find services tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
