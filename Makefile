# Martlet. `make demo` shows it, `make test` tests it.
SHELL := /bin/sh
SUDO := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo)
RELEASE := .build/release
DEBUG := .build/debug
FUNCTIONS := responder firewall nat44 loadbalancer router pipeline

.PHONY: setup build demo serve functions functions-check functions-bench functions-fuzz test check \
  bench clean

# Debian packages that are missing, and a kernel for tiny virtual machines.
setup:
	@scripts/setup

build: setup
	swift build -c release --static-swift-stdlib

# Real functions as containers and as tiny virtual machines, real packets, kills and restarts;
# leaves nothing behind.
demo: build functions
	$(SUDO) $(RELEASE)/martlet demo

# The daemon in the foreground, on the usual socket.
serve: build
	$(SUDO) $(RELEASE)/martletd

# The network functions in Swift: as static programs for Linux, and as unikernels.
functions: setup
	NetworkFunctions/build $(FUNCTIONS) replay
	NetworkFunctions/Unikernel/build $(FUNCTIONS) faults replay

# Runs the functions in both forms between network namespaces, and breaks a unikernel.
functions-check: functions
	$(SUDO) NetworkFunctions/check

# What they do a second, a line of JSON each.
functions-bench: functions
	$(SUDO) NetworkFunctions/bench

# A million random and mutated frames into each unikernel as it runs.
functions-fuzz: functions
	$(SUDO) NetworkFunctions/fuzz

# Every test of both packages; what the functions do between network namespaces is checked by
# `functions-check`. One after another: on two processors tests that wait for the host would keep the others' tasks.
test: setup functions
	swift build
	swift build --build-tests
	scripts/run-tests --skip-build --no-parallel
	scripts/run-tests --package-path NetworkFunctions

# Format, undeclared imports, who owns which package, nothing put off without a reason, no file that
# somebody left: what a program dumps has megabytes.
check: setup
	swift format lint --strict --recursive Sources Tests NetworkFunctions/Sources NetworkFunctions/Tests \
	  NetworkFunctions/Unikernel/Sources NetworkFunctions/Unikernel/Tests NetworkFunctions/Unikernel/pack \
	  NetworkFunctions/Unikernel/Package.swift Package.swift NetworkFunctions/Package.swift
	scripts/check-imports
	@git ls-files -z | xargs -0 -r sh -c 'find "$$@" -size +1000k -printf "%p has %s octets, which no file of ours has: git rm it\n"' sh | { ! grep .; }
	swift build --explicit-target-dependency-import-check error

bench: build functions
	$(SUDO) $(RELEASE)/martlet bench --report build/bench-report.json

clean:
	rm -rf .build NetworkFunctions/.build NetworkFunctions/Unikernel/.build build
