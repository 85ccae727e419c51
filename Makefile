# Commands of this project; `make help` lists them. CONTRIBUTING.md says when to use which.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
PYTHON ?= python3
# On a terminal pip shows how far it is.
PIP := $(VENV)/bin/pip --disable-pip-version-check install $(if $(MAKE_TERMOUT),,--quiet) --require-hashes
# Files of tests that run side by side; most of the time each waits for what it has started. Those
# that cut the power, and start other people's programs, leave more of two cores to each. A process
# of tests that crashes is not replaced: pytest-xdist 3.8.0 then waits for ever for the new one, or
# fails with an error of its own (its issues 1323 and 1327).
JOBS ?= 4
LOAD_JOBS ?= 3
SIDE_BY_SIDE = --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --numprocesses
IMAGE ?= queue-appliance
BASE ?= debian:trixie-slim
# Of a base that came from a registry, which the image then names; empty for any other.
BASE_DIGEST = $(if $(findstring @,$(BASE)),$(lastword $(subst @, ,$(BASE))),$(shell docker image \
  inspect --format '{{join .RepoDigests "\n"}}' $(BASE) 2>/dev/null | sed -n '1s/.*@//p'))
SYSTEMD_IMAGE ?= queue-appliance-systemd
# Of a package for tests: newer than the one before, whatever setup.cfg says.
DEB_TEST_VERSION := 999
CUTS ?= 16
# What is compiled is kept, whatever the machine's habit: to compile the tests takes 8 s of a
# processor, and each process that runs some of them reads them all.
unexport PYTHONDONTWRITEBYTECODE
DESTDIR ?=
PREFIX ?= /opt/appliance

.PHONY: help run migrate lint format test compiled-tests model test-senders test-browser pictures test-faults \
  faults test-powercut powercut test-image test-scale scale test-systemd test-vm check-all bench bench-full image base-image \
  image-for-tests proxy-image-for-tests scale-images-for-tests systemd-images-for-tests deb install lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# need-test-containers: the host has what tools/setup_host.py knows under these names. It is looked
# for before anything else, so that one command installs all that is missing.
need-%:
	@$(PYTHON) tools/setup_host.py $(subst -, ,$*)

# The virtual environment, from the lock file.
$(VENV)/run.stamp: requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) tools/setup_host.py
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing what requirements.lock names into $(VENV) (about half a minute, once) ...'
	@$(PIP) -r requirements.lock
	@$(VENV)/bin/pip --disable-pip-version-check install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo 'Installing what requirements-dev.lock names too, for the checks (about half a minute, once) ...'
	@$(PIP) -r requirements-dev.lock
	@touch $@

run: need-broker $(VENV)/run.stamp ## start the appliance here, all its state under ./var; Ctrl-C ends it
	@exec $(VENV)/bin/appliance run

migrate: $(VENV)/run.stamp ## bring the database under ./var to this program's schema
	@$(VENV)/bin/appliance migrate

lint: need-lint $(VENV)/dev.stamp ## ruff, mypy, shellcheck, systemd-analyze
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTHON) tools/setup_host.py --units
	shellcheck .ci/run $$(git ls-files '*.sh') $(wildcard packaging/deb/p*)

format: $(VENV)/dev.stamp ## let ruff format the code
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

test: need-broker-test-model $(VENV)/dev.stamp ## unit and integration tests, with a real RabbitMQ
	$(VENV)/bin/pytest $(SIDE_BY_SIDE) $(JOBS) -m 'not long'

# pytest keeps its own compiled form of each test. Processes that start at once make it each.
compiled-tests: $(VENV)/dev.stamp
	$(VENV)/bin/pytest --collect-only --quiet --quiet -m 'not long'

model: need-model $(VENV)/dev.stamp ## explore the promise by machine, in thousands of new stories
	$(VENV)/bin/pytest tests/model

test-senders: need-broker-senders $(VENV)/dev.stamp ## let other people's programs send: webhooks, browser, syslog-ng, OpenTelemetry
	$(VENV)/bin/pytest $(SIDE_BY_SIDE) $(LOAD_JOBS) tests/senders

test-browser: need-broker-browser $(VENV)/dev.stamp ## look at the console in Chromium: every page, its accessibility, hostile messages
	$(VENV)/bin/pytest tests/browser -m 'not long' $(BROWSER)

pictures: need-broker-browser $(VENV)/dev.stamp ## make the README's pictures of the console anew
	PICTURES=1 $(VENV)/bin/pytest tests/browser/test_console_pictures.py

test-faults: need-broker-faults-containers $(VENV)/dev.stamp image-for-tests ## break every part under load and count what is stored; as root
	IMAGE=$(IMAGE) $(VENV)/bin/pytest $(SIDE_BY_SIDE) $(JOBS) tests/faults -m 'not long' $(FAULTS)

faults: need-broker-faults-containers $(VENV)/dev.stamp image-for-tests ## the same with the long storms
	IMAGE=$(IMAGE) $(VENV)/bin/pytest $(SIDE_BY_SIDE) $(JOBS) tests/faults $(FAULTS)

test-powercut: need-broker-disks-containers $(VENV)/dev.stamp image-for-tests ## cut the power under load, CUTS=16 times, and count; as root
	IMAGE=$(IMAGE) $(VENV)/bin/pytest $(SIDE_BY_SIDE) $(LOAD_JOBS) tests/powercut --cuts $(CUTS)

powercut: ## the same 120 times
	$(MAKE) test-powercut CUTS=120

deb: need-package $(VENV)/run.stamp ## build dist/queue-appliance_VERSION_ARCH.deb; DEB_VERSION=: another version
	@$(VENV)/bin/python tools/build_deb.py $(DEB_VERSION)

install: $(VENV)/run.stamp ## lay program and units out below DESTDIR=/, the program in PREFIX=/opt/appliance
	@$(VENV)/bin/python tools/install.py --destdir '$(DESTDIR)/' --prefix '$(PREFIX)'
	@test -n '$(DESTDIR)' || echo 'Start it with: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload && systemctl enable --now appliance.target'

base-image: need-containers ## make $(BASE) from Debian's packages, for builders that reach no registry of images
	mmdebstrap --variant=minbase --include=ca-certificates \
	  --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
	  trixie - | docker import - $(BASE)

image: ## build the image
	docker build --tag $(IMAGE) --build-arg BASE=$(BASE) \
	  --build-arg BASE_DIGEST=$(BASE_DIGEST) \
	  --build-arg VERSION="$$(sed -n 's/^version = //p' setup.cfg)" \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
	  --build-arg CREATED="$$(date --utc +%Y-%m-%dT%H:%M:%SZ)" .

# The image of the code as it is; what has not changed is in Docker's layers.
image-for-tests: need-containers
	@docker image inspect $(BASE) >/dev/null 2>&1 || $(MAKE) --no-print-directory base-image
	@$(MAKE) --no-print-directory image

# The proxy of deploy/compose, from Debian's packages; it changes only with its Dockerfile.
proxy-image-for-tests: image-for-tests
	@docker build --quiet --tag $(IMAGE)-proxy --build-arg BASE=$(BASE) tests/image/proxy

# Two packages of the code as it is, the later one newer than any release. Their files are those of
# `make deb`; to press them as small takes half a minute of a processor for each, and an emulated
# machine long to unpack.
build/deb.stamp: $(VENV)/run.stamp README.md LICENSE Makefile $(shell find \
    appliance packaging rootfs supervisor systemd tools -type f -not -name '*.pyc')
	@rm -rf build/deb
	@$(VENV)/bin/python tools/build_deb.py --compression zstd --output build/deb 0.0.1 $(DEB_TEST_VERSION)
	@touch $@

test-image: need-containers $(VENV)/dev.stamp proxy-image-for-tests ## build the image and test its container from outside, as a user would
	IMAGE=$(IMAGE) $(VENV)/bin/pytest tests/image

# Debian hosts with systemd, which change only with their script: made once.
systemd-images-for-tests: need-containers
	@for suite in bookworm trixie; do \
	  docker image inspect $(SYSTEMD_IMAGE):$$suite >/dev/null 2>&1 \
	    || tests/systemd/make-image.sh $$suite $(SYSTEMD_IMAGE):$$suite; \
	done

build/guest-bookworm.tar: tests/vm/make-root.sh
	@mkdir -p build
	tests/vm/make-root.sh bookworm $@

# RabbitMQ, PostgreSQL and nginx, as the images that deploy/compose/scale names have them.
scale-images-for-tests: image-for-tests
	@docker build --quiet --tag $(IMAGE)-scale-broker --build-arg IMAGE=$(IMAGE) \
	  --file tests/scale/images/broker.Dockerfile tests/scale/images
	@docker build --quiet --tag $(IMAGE)-scale-postgres --build-arg BASE=$(BASE) \
	  --file tests/scale/images/postgres.Dockerfile tests/scale/images
	@docker build --quiet --tag $(IMAGE)-scale-proxy --build-arg BASE=$(BASE) \
	  --file tests/scale/images/proxy.Dockerfile tests/scale/images

test-scale: need-containers-scale $(VENV)/dev.stamp scale-images-for-tests ## start deploy/compose/scale; kill, cut, fill and restart its parts under load, and count; as root
	IMAGE=$(IMAGE) $(VENV)/bin/pytest tests/scale -m 'not long' $(SCALE)

scale: ## the same with further faults of brokers and databases
	$(MAKE) --no-print-directory test-scale SCALE="-m '' $(SCALE)"

test-systemd: need-package-containers $(VENV)/dev.stamp image-for-tests systemd-images-for-tests build/deb.stamp ## install the package on Debian 12 and 13 (systemd in containers) and use it
	IMAGE=$(IMAGE) SYSTEMD_IMAGE=$(SYSTEMD_IMAGE) PREVIOUS_DEB=$$(ls build/deb/*_0.0.1_*) \
	  CURRENT_DEB=$$(ls build/deb/*_$(DEB_TEST_VERSION)_*) $(VENV)/bin/pytest tests/systemd $(SYSTEMD)

test-vm: need-package-vm $(VENV)/dev.stamp build/deb.stamp build/guest-bookworm.tar ## install the package on a whole machine (QEMU): reboot it, cut its power
	GUEST_ROOT=build/guest-bookworm.tar CURRENT_DEB=$$(ls build/deb/*_$(DEB_TEST_VERSION)_*) \
	  $(VENV)/bin/pytest tests/vm -x -s $(VM)

check-all: ## everything that .ci/run does, and whole: with the long storms and all the power cuts
	$(MAKE) lint
	$(MAKE) test
	$(MAKE) test-senders
	$(MAKE) test-browser BROWSER="-m ''"
	$(MAKE) model
	$(MAKE) faults
	$(MAKE) bench
	$(MAKE) test-image
	$(MAKE) scale
	$(MAKE) test-powercut
	$(MAKE) test-systemd
	$(MAKE) test-vm

$(VENV)/bench.stamp: bench/requirements.lock $(VENV)/run.stamp
	@$(PIP) -r bench/requirements.lock
	@touch $@

bench: need-broker-bench $(VENV)/bench.stamp ## ours beside the naive design, in one run; BENCH=--quick: does it work?
	@$(VENV)/bin/python -m bench $(BENCH)

bench-full: ## make bench, then ten million rows, and every page on a full database
	@$(MAKE) --no-print-directory bench BENCH="--full $(BENCH)"

lock: ## resolve the dependencies anew, with hashes (needs uv)
	uv pip compile setup.cfg --extra build --extra schema --extra postgresql --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --custom-compile-command 'make lock' --quiet -o requirements.lock
	uv pip compile setup.cfg --extra build --extra schema --extra postgresql --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --custom-compile-command 'make lock' -c requirements.lock \
	  --quiet -o requirements-dev.lock

clean: ## remove what the other commands made, but not ./var
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
