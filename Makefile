# make demo and make test need nothing but a fresh Debian or Ubuntu machine with Python 3.11 or later.
.DEFAULT_GOAL := help
.PHONY: help demo check test test-unit test-vectors test-netns test-sim sim browser-test compose-test k8s-test helm-test k8s-api-test monitoring-test programs soak soak-sidecars lint format \
        coverage coverage-table kernel bench figures differential spiffe fuzz model mutation proto lock images images-test \
        images-reproducible clean

BIN := .venv/bin
KUBERNETES := build/kubernetes-tools
BROWSER := $(shell command -v chromium)
ENGINE := $(shell [ "$$(id -u)" = 0 ] && command -v dockerd)

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 26

demo:  ## three roles of real programs seal, serve and are attacked, on this machine (root)
	@.ci/prepare lab
	@$(BIN)/toposeal-lab demo $(ARGS)

check:  ## before each commit: lint, and the tests of the tree itself (under a minute)
	@.ci/run prepare lint
	@$(BIN)/pytest -q tests/test_*.py

test:  ## what CI runs; compose and images only where a Docker engine is installed, browser where Chromium is
	@.ci/run prepare lint unit vectors netns sim kubernetes $(if $(BROWSER),browser) $(if $(ENGINE),compose images)

test-unit:  ## unit and property tests, with the branch coverage of the pure packages
	@.ci/run prepare unit

test-vectors:  ## real quotes through the real verifier
	@.ci/run prepare vectors

test-netns:  ## real Envoy, rules and processes in network namespaces (root)
	@.ci/run prepare netns

test-sim:  ## the protocol under faults, seeded
	@.ci/run prepare sim

SEEDS := 10000
FIRST := 0
sim:  ## the same for longer: make sim SEEDS=1000000 FIRST=3000; a seed that fails is told with the fewest faults
	@.ci/prepare dev
	@$(BIN)/toposeal-lab simulate --first-seed $(FIRST) --seeds $(SEEDS) $(ARGS)

browser-test:  ## the verifier's page in a real Chromium (root, where that has to be installed)
	@.ci/run prepare browser

compose-test:  ## the images and the tutorial under a real, isolated Docker engine (root)
	@.ci/run prepare compose
	@$(BIN)/pytest -q tests/compose/test_tutorial.py

k8s-test: build/kubernetes/bin/python  ## what inject writes, by the schemas of five versions of Kubernetes, and what kustomize makes (kubectl)
	@.ci/prepare dev
	@$(BIN)/pytest -q tests/kubernetes --ignore=tests/kubernetes/test_api_server.py --ignore=tests/kubernetes/test_helm.py --ignore=tests/kubernetes/test_cluster_page.py

helm-test: $(KUBERNETES)/helm  ## the library chart in a real Helm, and its pods beside those of inject (Go 1.24)
	@.ci/prepare dev
	@$(BIN)/pytest -q tests/kubernetes/test_helm.py

k8s-api-test: $(addprefix $(KUBERNETES)/,etcd kube-apiserver kubectl helm)  ## what inject writes, the webhook, and docs/kubernetes.md with kubectl and Helm, at a real API server (Go 1.24; 10 min to build it once)
	@.ci/prepare dev
	@$(BIN)/pytest -q tests/kubernetes/test_api_server.py tests/kubernetes/test_cluster_page.py

# As the modules' checksums have them; go fetches a module as it does for everybody.
$(KUBERNETES)/%: tests/kubernetes/go/%/go.mod tests/kubernetes/go/%/go.sum
	@command -v go >/dev/null || { echo "this needs Go 1.24 or later" >&2; exit 1; }
	@mkdir -p $(@D)
	go build -C tests/kubernetes/go/$* -mod=readonly -o $(CURDIR)/$@ tool

monitoring-test:  ## the dashboard's queries and the alerts in a real Prometheus (root, where that has to be installed)
	@.ci/prepare dev
	@.ci/prepare monitoring
	@$(BIN)/pytest -q tests/monitoring

programs:  ## PostgreSQL, Redis, gRPC, WebSockets, a gibibyte, 30,000 connections through a sealed mesh (root)
	@.ci/prepare programs
	@$(BIN)/pytest -q tests/programs $(ARGS)

soak:  ## 200 Envoys under one user: a stream each, 20 updates, what they take: make soak ARGS="--envoys 50" (root)
	@.ci/prepare lab
	@$(BIN)/python -I tests/soak/run.py $(ARGS)

soak-sidecars:  ## 20 whole sidecars on one node: make soak-sidecars ARGS="--sidecars 4" (root; 4 min on two cores)
	@.ci/prepare dev
	@.ci/prepare lab
	@$(BIN)/python -I tests/soak/sidecars.py $(ARGS)

lint:  ## ruff and mypy --strict
	@.ci/run prepare lint

format:  ## what lint's format check asks for
	@.ci/prepare dev
	@$(BIN)/ruff check --fix sidecar tests
	@$(BIN)/ruff format sidecar tests

coverage: test-unit  ## test-unit, then the lines and branches without a test as a page in build/
	@$(BIN)/coverage html -q -d build/coverage && echo build/coverage/index.html

coverage-table:  ## docs/catalogue-coverage.md from the names of the tests
	@.ci/prepare dev
	@$(BIN)/python -I tests/support/catalogue.py

kernel:  ## our reader on the configfs-tsm of a stock kernel, in an emulated machine (root, Debian 12 or later)
	@.ci/prepare dev
	@tests/kernel/fetch
	@$(BIN)/pytest -q tests/kernel

figures:  ## measure the curves of bench rounds and crowd, draw them into docs/figures: on an idle machine (root)
	@for name in crowd rounds; do \
		$(BIN)/toposeal-lab bench $$name --json > build/$$name.json && cp build/$$name.json docs/figures/$$name.json || exit 1; \
	done
	@$(BIN)/python -I tests/support/figures.py

bench:  ## how fast it seals, verifies and carries, what a sealed pod costs: make bench ARGS=evidence (root)
	@.ci/prepare lab
	@$(BIN)/toposeal-lab bench $(ARGS)

differential:  ## our verdicts and times beside other verifiers' (Go, Node; what is not installed is skipped)
	@.ci/prepare dev
	@$(BIN)/python tests/differential/run.py

spiffe:  ## go-spiffe with the identities that applications are given (Go)
	@.ci/prepare dev
	@$(BIN)/pytest -q tests/spiffe

mutation:  ## break the state machine in small ways, see whether a test notices: make mutation ARGS="--jobs 1 certificate.py"
	@.ci/prepare dev
	@$(BIN)/python tests/mutation/run.py $(ARGS)

model:  ## the rounds as a formal model, exhaustively, and each rule left out: make model ARGS=--fast (Spin)
	@.ci/prepare dev
	@.ci/prepare model
	@$(BIN)/python tests/model/run.py $(ARGS)

FUZZ_SECONDS := 60
FLIPS := 20000
fuzz: build/fuzz/bin/python  ## flipped bits of all evidence, every parser under atheris: FUZZ_SECONDS=60 ONLY=quote
	@$(if $(ONLY),:,.ci/prepare dev && $(BIN)/pytest -q tests/property/test_bad_input.py --flips $(FLIPS))
	@build/fuzz/bin/python tests/fuzz/parsers.py $(FUZZ_SECONDS) $(ONLY)

# The stubs refuse a runtime older than their generator, so that is the oldest one we support.
STUBS := sidecar
proto: build/proto/bin/python  ## sidecar/toposeal/_wire from proto/
	@mkdir -p $(STUBS)
	@build/proto/bin/python -Im grpc_tools.protoc -I toposeal/_wire=proto \
		--python_out=$(STUBS) --pyi_out=$(STUBS) proto/*.proto
	@build/proto/bin/python -Im grpc_tools.protoc -I toposeal/_wire=proto \
		--grpc_python_out=$(STUBS) proto/peer.proto

lock: build/lock/bin/python  ## requirements/*.txt from pyproject.toml and requirements/*.in
	@PATH=build/lock/bin:$$PATH .ci/lock

build/%/bin/python: requirements/%.txt
	@rm -rf build/$* && python3 -m venv build/$*
	@build/$*/bin/pip install -q --disable-pip-version-check --require-hashes $(foreach r,\
		$(if $(filter fuzz,$*),requirements/base.txt) $<,-r $(r))

images:  ## release and init image with their SBOMs to build/images: make images BASE_IMAGE=debian@sha256:... (root)
	@[ -n "$(BASE_IMAGE)" ] || { echo "BASE_IMAGE=... is required (docs/images.md); images/base makes one" >&2; exit 1; }
	@images/build "$(BASE_IMAGE)" build/images

images-test:  ## the release and the init image under a real, isolated Docker engine (root)
	@.ci/run prepare images

images-reproducible:  ## build what is committed twice without caches and compare the archives (root)
	@.ci/prepare docker
	@images/reproducible

clean:  ## everything that is not in git and not a finding
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .coverage sidecar/*.egg-info
