# copra: build, run and test. `make` alone lists the targets.
export CGO_ENABLED ?= 0
GO        ?= go
PKGS      := ./...
BIN       := bin/copra
VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   := -s -w -X main.version=$(VERSION)
TESTFLAGS ?=

.PHONY: help build run test test-long race sim sim-long lint bench pd-sim proto clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/copra
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/copra

run: build ## start a whole cluster in one process (RUNFLAGS for its flags)
	./$(BIN) playground $(RUNFLAGS)

test: ## run the tests (a few minutes)
	$(GO) test -timeout 12m $(TESTFLAGS) $(PKGS)

test-long: ## the tests with their long variants: more seeds, more faults
	COPRA_TEST_LONG=1 $(GO) test -timeout 60m $(TESTFLAGS) $(PKGS)

race: ## the tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 40m $(TESTFLAGS) $(PKGS)

sim: ## simulate clusters with faults, raftstore alone and under transactions: SEED=n for one seed, all that CI runs without
	GODEBUG=asyncpreemptoff=1 $(if $(SEED),COPRA_SIM_SEED=$(SEED)) $(GO) test -count=1 -timeout 20m -v -run 'TestSim(Txn)?$$' $(TESTFLAGS) ./raftstore/sim ./tikv/txnsim

sim-long: ## the same for DURATION (1h) from SEED (that of the clock) on, after the whole crash matrix
	GODEBUG=asyncpreemptoff=1 COPRA_TEST_LONG=1 COPRA_SIM_SEED=$(or $(SEED),$(shell date +%s)) COPRA_SIM_DURATION=$(or $(DURATION),1h) \
		$(GO) test -count=1 -timeout 0 -v $(TESTFLAGS) ./raftstore/sim ./tikv/txnsim

lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet $(PKGS)
	$(GO) tool staticcheck $(PKGS)

bench: build ## raw KV beside etcd, YCSB and TPC-H beside PostgreSQL, on fresh clusters: PARTS="kv get txn sql tpch", SHORT=1
	$(GO) build -o bin/etcdnode ./benchmarks/etcdnode
	$(GO) build -o bin/compare ./benchmarks/compare
	$(if $(PARTS),PARTS="$(PARTS)") $(if $(SHORT),SHORT=$(SHORT)) ./benchmarks/run.sh

pd-sim: ## PD's scheduling with 200 simulated stores and 1,000,000 regions
	COPRA_TEST_LONG=1 $(GO) test -count=1 -timeout 60m -run TestLarge -v ./pd/pdsim

proto: ## generate the Go code of proto/ (needs protoc)
	@command -v protoc >/dev/null || { echo "make proto needs protoc (Debian: protobuf-compiler)"; exit 1; }
	@mkdir -p bin
	$(GO) build -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	PATH="$(CURDIR)/bin:$$PATH" protoc -I proto --go_out=proto --go_opt=paths=source_relative \
		--go-grpc_out=proto --go-grpc_opt=paths=source_relative $$(cd proto && ls */*.proto)

clean: ## remove bin/
	rm -rf bin
