# Commands of this project; `make help` lists them. CONTRIBUTING.md says when to use which.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
PYTHON ?= python3
PIP := $(VENV)/bin/pip --disable-pip-version-check install --quiet --require-hashes
IMAGE ?= queue-appliance
BASE ?= debian:trixie-slim
SYSTEMD_IMAGE ?= queue-appliance-systemd
# Of a package for tests: newer than the one before, whatever setup.cfg says.
DEB_TEST_VERSION := 999
CUTS ?= 16
DESTDIR ?=
PREFIX ?= /opt/appliance

.PHONY: help run migrate lint format test test-faults faults test-powercut powercut test-image \
  test-systemd test-vm bench bench-full image base-image deb install lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# The virtual environment, from the lock file. What the host must have is looked for first.
$(VENV)/run.stamp: requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) tools/setup_host.py
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing what requirements.lock names into $(VENV) ...'
	@$(PIP) -r requirements.lock
	@$(VENV)/bin/pip --disable-pip-version-check install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@$(PIP) -r requirements-dev.lock
	@touch $@

run: $(VENV)/run.stamp ## start the appliance here, all its state under ./var; Ctrl-C ends it
	@$(PYTHON) tools/setup_host.py --broker
	@exec $(VENV)/bin/appliance run

migrate: $(VENV)/run.stamp ## bring the database under ./var to this program's schema
	@$(VENV)/bin/appliance migrate

lint: $(VENV)/dev.stamp ## ruff, mypy, shellcheck, systemd-analyze
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTHON) tools/setup_host.py --lint
	shellcheck .ci/run $$(git ls-files '*.sh') $(wildcard packaging/deb/p*)

format: $(VENV)/dev.stamp ## let ruff format the code
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

test: $(VENV)/dev.stamp ## unit and integration tests, with a real RabbitMQ
	@$(PYTHON) tools/setup_host.py --broker
	$(VENV)/bin/pytest

test-faults: $(VENV)/dev.stamp ## break every part under load and count what is stored; as root
	@$(PYTHON) tools/setup_host.py --broker
	docker image inspect $(BASE) >/dev/null 2>&1 || $(MAKE) base-image
	$(MAKE) image
	IMAGE=$(IMAGE) $(VENV)/bin/pytest tests/faults -m 'not long' $(FAULTS)

faults: $(VENV)/dev.stamp ## the same with the long storms
	@$(PYTHON) tools/setup_host.py --broker
	docker image inspect $(BASE) >/dev/null 2>&1 || $(MAKE) base-image
	$(MAKE) image
	IMAGE=$(IMAGE) $(VENV)/bin/pytest tests/faults $(FAULTS)

test-powercut: $(VENV)/dev.stamp ## cut the power under load, CUTS=16 times, and count; as root
	@$(PYTHON) tools/setup_host.py --broker --disks
	docker image inspect $(BASE) >/dev/null 2>&1 || $(MAKE) base-image
	$(MAKE) image
	IMAGE=$(IMAGE) $(VENV)/bin/pytest tests/powercut --cuts $(CUTS)

powercut: ## the same 120 times
	$(MAKE) test-powercut CUTS=120

deb: $(VENV)/run.stamp ## build dist/queue-appliance_VERSION_ARCH.deb; DEB_VERSION=: another version
	@$(PYTHON) tools/setup_host.py --package
	@$(VENV)/bin/python tools/build_deb.py $(DEB_VERSION)

install: $(VENV)/run.stamp ## lay program and units out below DESTDIR=/, the program in PREFIX=/opt/appliance
	@$(VENV)/bin/python tools/install.py --destdir '$(DESTDIR)/' --prefix '$(PREFIX)'
	@test -n '$(DESTDIR)' || echo 'Start it with: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload && systemctl enable --now appliance.target'

base-image: ## make $(BASE) from Debian's packages, for builders that reach no registry of images
	mmdebstrap --variant=minbase --include=ca-certificates \
	  --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
	  trixie - | docker import - $(BASE)

image: ## build the image
	docker build --tag $(IMAGE) --build-arg BASE=$(BASE) \
	  --build-arg VERSION="$$(sed -n 's/^version = //p' setup.cfg)" \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
	  --build-arg CREATED="$$(date --utc +%Y-%m-%dT%H:%M:%SZ)" .

test-image: $(VENV)/dev.stamp ## build the image and test its container from outside, as a user would
	docker image inspect $(BASE) >/dev/null 2>&1 || $(MAKE) base-image
	$(MAKE) image
	IMAGE=$(IMAGE) $(VENV)/bin/pytest tests/image

test-systemd: $(VENV)/dev.stamp ## install the package on Debian 12 and 13 (systemd in containers) and use it
	@$(PYTHON) tools/setup_host.py --package
	@for suite in bookworm trixie; do \
	  docker image inspect $(SYSTEMD_IMAGE):$$suite >/dev/null 2>&1 \
	    || tests/systemd/make-image.sh $$suite $(SYSTEMD_IMAGE):$$suite; \
	done
	docker image inspect $(IMAGE) >/dev/null 2>&1 || $(MAKE) image
	@$(VENV)/bin/python tools/build_deb.py --output build/deb 0.0.1 $(DEB_TEST_VERSION)
	IMAGE=$(IMAGE) SYSTEMD_IMAGE=$(SYSTEMD_IMAGE) PREVIOUS_DEB=$$(ls build/deb/*_0.0.1_*) \
	  CURRENT_DEB=$$(ls build/deb/*_$(DEB_TEST_VERSION)_*) $(VENV)/bin/pytest tests/systemd $(SYSTEMD)

build/guest-bookworm.tar: tests/vm/make-root.sh
	@mkdir -p build
	tests/vm/make-root.sh bookworm $@

test-vm: $(VENV)/dev.stamp build/guest-bookworm.tar ## install the package on a whole machine (QEMU): reboot it, cut its power
	@$(PYTHON) tools/setup_host.py --package
	@$(VENV)/bin/python tools/build_deb.py --output build/deb $(DEB_TEST_VERSION)
	GUEST_ROOT=build/guest-bookworm.tar CURRENT_DEB=$$(ls build/deb/*_$(DEB_TEST_VERSION)_*) \
	  $(VENV)/bin/pytest tests/vm -x -s $(VM)

$(VENV)/bench.stamp: bench/requirements.lock $(VENV)/run.stamp
	@$(PIP) -r bench/requirements.lock
	@touch $@

bench: $(VENV)/bench.stamp ## ours beside the naive design, in one run; BENCH=--quick: does it work?
	@$(PYTHON) tools/setup_host.py --broker
	@$(VENV)/bin/python -m bench $(BENCH)

bench-full: ## make bench, and then with ten million rows
	@$(MAKE) --no-print-directory bench BENCH="--full $(BENCH)"

lock: ## resolve the dependencies anew, with hashes (needs uv)
	uv pip compile setup.cfg --extra build --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --custom-compile-command 'make lock' --quiet -o requirements.lock
	uv pip compile setup.cfg --extra build --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --custom-compile-command 'make lock' -c requirements.lock \
	  --quiet -o requirements-dev.lock

clean: ## remove what the other commands made, but not ./var
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
