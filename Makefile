# `make test` and `make demo` need nothing but Go: what else they use is fetched, and
# Java, for Kafka and the comparison with Kafka Streams, is installed (`make java`).
# CONTRIBUTING.md says what each target is for.

GO ?= go
GOLANGCI_VERSION := v2.15.0
POSTGRES_VERSIONS := 14 15 16 17 18

DEMO_FLAGS ?=
BENCH_FLAGS ?=
CYCLES ?= 60
FIRST ?= 1
BROKERS ?= 3
SEEDS ?= 5000
READS ?= 1000000
ROWS ?= 3600000
CUTS ?= 20
CASES ?= 2000
SEED ?= 1
FAMILY ?=
MUTANTS ?= .
FUZZ ?= .
FUZZTIME ?= 1m

GOBIN := $(shell $(GO) env GOPATH)/bin
GOLANGCI := $(GOBIN)/golangci-lint
# The version's number, if the program is there.
GOLANGCI_FOUND = $(shell $(GOLANGCI) version --short 2>/dev/null)

# The tests have been vetted before.
.PHONY: test
test: vet lint-if-installed java ## everything that CI runs; under 25 minutes on 2 cores
	$(GO) test -vet=off -timeout 15m ./...

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: lint
lint: golangci ## all linters; installs the pinned golangci-lint first
	$(GOLANGCI) run ./...
	$(GO) test -count=1 ./internal/lint

# It asks the program itself, which somebody else may have replaced or removed.
.PHONY: golangci
golangci:
	@[ "v$(GOLANGCI_FOUND)" = "$(GOLANGCI_VERSION)" ] || \
		$(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

# Installing the linter takes a minute, so `make test` leaves that to `make lint`. The
# repository's own rules (internal/lint) are among the tests in any case.
.PHONY: lint-if-installed
lint-if-installed:
	@if [ "v$(GOLANGCI_FOUND)" = "$(GOLANGCI_VERSION)" ]; then $(GOLANGCI) run ./...; \
	else echo "golangci-lint $(GOLANGCI_VERSION) is not installed: make lint does that"; fi

.PHONY: fmt
fmt: golangci ## formats the code and breaks long lines
	$(GOLANGCI) fmt --enable golines ./...

.PHONY: race
race: ## the tests of the concurrent and the stateful packages under the race detector
	$(GO) test -race -timeout 30m ./state/... ./view/... ./operators/... ./internal/task/... \
		./internal/engine/... ./internal/faultproxy ./internal/pgserver

.PHONY: test-postgres
test-postgres: ## the PostgreSQL source and sink, and views against SQL, on each supported version
	@for version in $(POSTGRES_VERSIONS); do \
		echo "== PostgreSQL $$version"; \
		TAILRACE_TEST_PG_VERSION=$$version $(GO) test -count=1 -timeout 20m \
			./sources/postgres/... ./sinks/postgres/... || exit 1; \
		TAILRACE_TEST_PG_VERSION=$$version $(GO) test -count=1 -timeout 20m \
			-run '^TestViewEqualsSQL$$' ./internal/apptest || exit 1; \
	done

.PHONY: demo
demo: ## a shop in a real PostgreSQL, with live views; options in DEMO_FLAGS
	$(GO) run ./cmd/tailrace demo $(DEMO_FLAGS)

.PHONY: crash
crash: ## kill -9 in a loop: CYCLES=500, and FIRST=201 to go on after 200
	TAILRACE_CRASH_CYCLES=$(CYCLES) TAILRACE_CRASH_FIRST=$(FIRST) \
		$(GO) test -count=1 -timeout 0 -v -run '^TestCrash$$' ./internal/crash

.PHONY: crash-kafka
crash-kafka: ## kills and stops members of a group, and one of their BROKERS=3: CYCLES=100, FIRST=51 to go on after 50
	TAILRACE_CRASH_CYCLES=$(CYCLES) TAILRACE_CRASH_FIRST=$(FIRST) TAILRACE_CRASH_BROKERS=$(BROKERS) \
		$(GO) test -count=1 -timeout 0 -v -run '^TestCrashKafka$$' ./internal/crashkafka

.PHONY: sim
sim: ## both modes in simulation, in virtual time and on one core: SEEDS=5000, FIRST=5001 to go on after 5000
	GOMAXPROCS=1 TAILRACE_SIM_SEEDS=$(SEEDS) TAILRACE_SIM_FIRST=$(FIRST) \
		$(GO) test -tags synctests -count=1 -timeout 0 -v -run '^TestSim(Direct)?$$' ./internal/sim

.PHONY: torn
torn: ## reads views and target tables while money moves, READS=1000000 times: none may be torn
	TAILRACE_TEST_READS=$(READS) $(GO) test -count=1 -timeout 0 -v -run '^TestNeverTorn$$' ./internal/apptest

.PHONY: outage
outage: ## a target that is down while ROWS=3600000 changes come, an hour of 1,000 a second
	TAILRACE_TEST_OUTAGE_ROWS=$(ROWS) $(GO) test -count=1 -timeout 0 -v -run '^TestOutage$$' ./internal/apptest

.PHONY: cuts
cuts: ## connections to PostgreSQL cut at every place: CUTS=20 times as many as in the tests
	TAILRACE_TEST_CUTS=$(CUTS) $(GO) test -count=1 -timeout 0 -v \
		-run '^(TestNewConnectionCut|TestFirstOpenCut|TestStreamedTransactionCut)$$' ./sources/postgres

.PHONY: attack
attack: ## the views' server with 10,000 idle clients and a view of 10 million rows
	TAILRACE_TEST_ATTACK=1 $(GO) test -count=1 -timeout 0 -v \
		-run '^(TestSlowClients|TestIdleClients|TestRangeOfLargeView|TestSlowReaders)$$' ./view

.PHONY: mutants
mutants: ## puts faults into the code, which tests have to find: MUTANTS=REGEXP of their names
	TAILRACE_MUTANTS="$(MUTANTS)" $(GO) test -count=1 -timeout 0 -v -run '^TestMutantsAreFound$$' ./internal/mutants

.PHONY: fuzz
fuzz: ## every fuzz function in turn: FUZZTIME=10m each, FUZZ=REGEXP of their names
	@grep -rn --include=*_test.go -o '^func Fuzz[A-Za-z]*' . | sed 's/:.*func / /' | grep -E '$(FUZZ)' | \
	while read -r file name; do \
		echo "== $$name ($$(dirname $$file))"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$(dirname $$file) || exit 1; \
	done

.PHONY: java
java: ## installs Java and Maven with the system's package manager, if they are missing
	@internal/kstreams/java/install.sh

.PHONY: fuzz-kstreams
fuzz-kstreams: java ## random cases on Kafka Streams: CASES=2000 a family, SEED=1, FIRST=501 to go on after 500, FAMILY="a b"
	TAILRACE_FUZZ_CASES=$(CASES) TAILRACE_FUZZ_SEED=$(SEED) TAILRACE_FUZZ_FIRST=$(FIRST) \
		TAILRACE_FUZZ_FAMILY="$(FAMILY)" \
		$(GO) test -count=1 -timeout 0 -v -run '^TestFuzz$$' ./internal/kstreams

.PHONY: bench
bench: ## the benchmarks; options in BENCH_FLAGS (see bench/README.md)
	$(GO) run ./bench $(BENCH_FLAGS)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
