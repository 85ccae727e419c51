"""What the Makefile's commands look for on the host before there is a virtual environment."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "setup_host.py"


@pytest.fixture
def setup_host(monkeypatch):
    spec = importlib.util.spec_from_file_location("setup_host", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["setup_host.py"])
    return module


def test_it_needs_nothing_but_the_standard_library_and_is_quiet_when_all_is_there():
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, "--broker"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_old_python_is_named(setup_host, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert setup_host.main() == 1
    assert "Python 3.11 or later is needed" in capsys.readouterr().err


def test_whoever_is_not_root_gets_one_command_for_all_that_is_missing(
    setup_host, monkeypatch, capsys
):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup_host, "missing_for_venv", lambda: ["python3-venv"])
    monkeypatch.setattr(setup_host, "missing_for_broker", lambda: ["rabbitmq-server"])
    assert setup_host.main() == 1
    commands = [line for line in capsys.readouterr().err.splitlines() if "apt-get" in line]
    assert len(commands) == 1
    assert commands[0].endswith("python3-venv rabbitmq-server'")


def test_checkers_are_asked_of_debian_by_their_package(setup_host, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert setup_host.missing_tools(setup_host.LINTERS) == ["shellcheck", "systemd"]
    assert setup_host.missing_tools(setup_host.DISKS) == ["mount", "btrfs-progs", "e2fsprogs"]


def test_a_directive_that_systemd_does_not_know_is_found(setup_host, monkeypatch, tmp_path):
    for file in setup_host.UNITS.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_text(file.read_text())
    unit = tmp_path / "appliance-api.service"
    unit.write_text(unit.read_text() + "NoSuchDirective=1\n")
    monkeypatch.setattr(setup_host, "UNITS", tmp_path)
    folder = tmp_path / "staged"
    folder.mkdir()
    (problem,) = setup_host.verify_units(folder)
    assert problem.startswith("systemd/appliance-api.service:")
    assert "NoSuchDirective" in problem


def test_a_mistake_in_the_user_or_the_folders_is_found(setup_host, monkeypatch, tmp_path):
    (tmp_path / "appliance.sysusers.conf").write_text("z nonsense\n")
    (tmp_path / "appliance.tmpfiles.conf").write_text("dd /nonsense\n")
    monkeypatch.setattr(setup_host, "UNITS", tmp_path)
    assert len(setup_host.verify_user_and_folders(tmp_path)) == 2
