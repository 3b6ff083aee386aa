# SPDX-License-Identifier: GPL-2.0-or-later
# Each target is one verb of ./labnic. make itself ends with status 2 when that fails; ./labnic has the finer codes.

LABNIC := ./labnic
quote = '$(subst ','\'',$(1))'

.DEFAULT_GOAL := help
.PHONY: help boot test test-unit test-device test-guest mutants check gen gen-check build doctor clean clean-cache
.PHONY: test-debug test-overlay contract cycles bench

help: ## What there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

boot: ## Boot the guest and open a shell in it; CMD='ethtool -i eth0' runs that and ends
	@$(LABNIC) up $(if $(CMD),--command $(call quote,$(value CMD)))

test: ## All tests, from nothing
	@$(LABNIC) test

test-unit: ## The Python code alone
	@$(LABNIC) test unit

test-device: ## The device in QEMU, without a guest
	@$(LABNIC) test device

test-guest: ## The booted guest, with packets
	@$(LABNIC) test guest

test-debug: ## The guest's tests and the contract on a kernel that checks itself, which is compiled the first time
	@$(LABNIC) test guest --kernel debug
	@$(LABNIC) contract --kernel debug

contract: ## Every rule for network devices, provoked and judged: the table of who kept which
	@$(LABNIC) contract

bench: ## labnic beside every other NIC of a QEMU that is built from source: rates, delays, costs
	@$(LABNIC) --set qemu.source=overlay bench

cycles: ## A thousand times load, up, traffic, down, unload on the debug kernel
	@$(LABNIC) cycles --kernel debug

test-overlay: ## The device, and what the bench counts, in a QEMU that is built from source, which takes minutes once
	@$(LABNIC) --set qemu.source=overlay test device tests/guest/test_bench.py

mutants: ## Seeded bugs: put each into a copy of the sources, and see that the tests notice it
	@$(LABNIC) mutants

check: ## Static checks of everything
	@$(LABNIC) check

gen: ## Generate the header and the register reference from the hardware map
	@$(LABNIC) gen

gen-check: ## Fail when what is checked in differs from what would be generated
	@$(LABNIC) gen-check

build: ## Build QEMU's plugin, the driver and the guest's image
	@$(LABNIC) build

doctor: ## What this machine has and lacks
	@$(LABNIC) doctor

clean: ## Delete the artifacts of earlier runs
	@$(LABNIC) clean

clean-cache: ## Delete everything that was built and downloaded, too
	@$(LABNIC) clean --cache
