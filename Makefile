# The checks are steps of .ci/run: what passes here passes in CI.

SHELL := /bin/bash
TOOL := GOWORK=off go tool -modfile=$(CURDIR)/tools/go.mod

.DEFAULT_GOAL := help
.PHONY: help ci fmt lint tidy test race readme fuzz bench outside deadcode api release mutate

help: ## List the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

ci: ## Run the whole gate, as CI does
	bash .ci/run

fmt: ## Format the code and tidy every go.mod
	$(TOOL) golangci-lint fmt
	scripts/tidy

lint: ## Run golangci-lint and go vet on every module
	bash .ci/run format lint vet

tidy: ## Check that each go.mod is tidy
	bash .ci/run tidy

test: ## Run every test of the workspace
	go test work

race: ## Run them with the race detector, in random order, and check the coverage floors
	bash .ci/run race

readme: ## In a fresh clone, compile README.md's Go and run its commands
	bash .ci/run readme

fuzz: ## Run each fuzz target for FUZZTIME (20000x)
	bash .ci/run fuzz

bench: ## Measure: six runs of the benchmarks of PKG (.), for benchstat
	go test -run '^$$' -bench . -benchmem -count 6 $(or $(PKG),.) | tee /dev/stderr | $(TOOL) benchstat -

outside: ## Get, build and install every module from an empty folder
	bash .ci/run outside

deadcode: ## List the functions that no program and no test reaches
	bash .ci/run deadcode

api: ## Show how the public API differs from BASE (HEAD~1)
	bash .ci/run api

release: ## Rehearse the release of VERSION
	scripts/release $(VERSION)

mutate: ## Change the code of PKG (./internal/transport) and see whether its tests notice
	$(TOOL) gremlins unleash $(or $(PKG),./internal/transport)
