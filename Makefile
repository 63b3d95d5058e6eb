# Dragoman. `make run` serves pipeline.yaml, `make test` runs the tests; both set up what they need.
SHELL       := /bin/bash
GO          ?= go
ARGS        ?=
ROWS        ?=
MAKEFLAGS   += --no-print-directory
export CGO_ENABLED ?= 0
# gRPC's pages for /debug/requests, which nobody serves, hold html/template, and with that in it the linker
# keeps every method of every type: 5 MB of bin/dragoman. And what is compiled is found in Go's cache from
# every checkout, not only from the one that it was compiled in.
export GOFLAGS := $(filter-out -tags=grpcnotrace -trimpath,$(GOFLAGS)) -tags=grpcnotrace -trimpath

.DEFAULT_GOAL := help
.PHONY: help run test build soak bench faults pictures release release-test lint schema generate setup clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

run: build ## Serve pipeline.yaml, with the plugin apertium when there is no key (ARGS=flags of `dragoman serve`)
	@examples/quickstart/run $(ARGS)

# Not from the cache: tests start programs and read files that it does not know of. Debian's packages come
# while the programs are compiled, and lint has vetted all. What cannot be told under the race detector, such as
# what allocates, and what is the work of other programs, runs first and without it: some of that needs a machine
# that is not too busy. Then the longest package begins, three at a time since they wait a lot. A program with the
# detector in it would rest for a second at its end.
test: setup ## Run every test under the race detector
	@.ci/setup cc apertium python readers node nginx redis chromium deploy & \
		$(MAKE) build lint; built=$$?; wait $$! && exit $$built
	@export DRAGOMAN_TEST_BINARIES=$(CURDIR)/bin GO="$(GO)"; .ci/without-race; plain=$$?; \
		CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 $(GO) test -race -vet=off -count=1 -p 3 -timeout 15m ./plugins/host ./... && exit $$plain

build: setup ## Build bin/dragoman, bin/openai-sim and bin/plugins/*
	@mkdir -p bin
	@$(GO) build -o bin/ ./cmd/...
	@for d in plugins/*/main.go; do [ -e "$$d" ] || continue; \
		n=$$(basename $$(dirname $$d)); $(GO) build -o bin/plugins/$$n ./plugins/$$n || exit 1; done

soak: build ## The long proofs, an hour or two: properties, the fault run, fuzzing (CHECKS=, FAULTS=, FUZZTIME=; 0 leaves one out)
	@GO="$(GO)" .ci/soak

bench: build ## Measure everything against its bar, some minutes (ROWS=name,... for a part)
	@bin/bench -rows "$(ROWS)"

faults: build ## Prove what becomes of an upstream's faults, a minute or two (ARGS=flags of bin/faults)
	@bin/faults $(ARGS)

pictures: build ## Draw what `dragoman tap`, `dragoman status` and the dashboard show, for README.md
	@$(GO) build -o bin/ ./examples/pictures ./examples/pictures/dashboard
	@examples/pictures/make

release: setup ## Make tar.gz, deb and rpm of this commit in dist/, with checksums and SBOMs (ARGS=-arch amd64)
	@cd cmd/internal/release && $(GO) build -o ../../../bin/release .
	@bin/release $(ARGS)

release-test: setup ## Prove what `make release` makes: twice the same, lintian, installed, upgraded and purged in a Debian
	@.ci/setup release
	@GO="$(GO)" .ci/release-test

lint: build ## Check formatting, vet, and that the JSON Schemas are current
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); [ -z "$$out" ] || { echo "not formatted, run gofmt -w:"; echo "$$out"; exit 1; }
	@$(GO) vet ./...
	@bin/dragoman schema | diff -q - pipeline.schema.json >/dev/null || { echo "pipeline.schema.json is not what the code says: run make schema"; exit 1; }
	@bin/dragoman schema --tests | diff -q - pipeline_test.schema.json >/dev/null || { echo "pipeline_test.schema.json is not what the code says: run make schema"; exit 1; }

schema: setup ## Write pipeline.schema.json and pipeline_test.schema.json from the code
	@$(GO) run ./cmd/dragoman schema > pipeline.schema.json.new && mv pipeline.schema.json.new pipeline.schema.json
	@$(GO) run ./cmd/dragoman schema --tests > pipeline_test.schema.json.new && mv pipeline_test.schema.json.new pipeline_test.schema.json

generate: setup ## Write from plugin.proto the Go code of plugins/wire and the descriptors of the Python SDK
	@cd plugins/wire && $(GO) run ./generate

setup:
	@.ci/setup go modules

clean: ## Remove what was built
	@rm -rf bin dist .run
