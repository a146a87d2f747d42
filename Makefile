# Everything CI checks, one target each. The tools are pinned in tools/go.mod.

SHELL := /bin/bash -o pipefail
TOOL := GOWORK=off go tool -modfile=$(CURDIR)/tools/go.mod
IN_EACH_MODULE = go list -m -f '{{.Dir}}' | while read -r dir; do (cd "$$dir" && $(1)) || exit 1; done

FUZZTIME ?= 5s
BASE ?= HEAD~1

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: fmt
fmt: ## Format the code, and sort go.mod and the imports
	$(call IN_EACH_MODULE,go mod tidy && $(TOOL) golangci-lint fmt)

.PHONY: lint
lint: ## Report what golangci-lint and go vet find in every module
	$(call IN_EACH_MODULE,$(TOOL) golangci-lint run && go vet ./...)

.PHONY: tidy
tidy: ## Check that every go.mod and go.sum is tidy
	$(call IN_EACH_MODULE,GOWORK=off go mod tidy -diff)

.PHONY: test
test: ## Run every test of the workspace
	go test work

.PHONY: race
race: ## Run the tests with the race detector, in random order
	go test -race -shuffle=on work
