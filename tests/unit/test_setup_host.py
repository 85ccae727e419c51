"""What the Makefile's commands look for on the host before there is a virtual environment."""

import importlib.util
import os
import re
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


def test_setup_host_needs_only_the_standard_library_and_is_quiet_when_all_is_there():
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, "broker", "test"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_old_python_is_named(setup_host, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert setup_host.main() == 1
    assert "Python 3.11 or later is needed" in capsys.readouterr().err


def test_one_command_for_all_that_is_missing_is_shown_to_a_user_who_is_not_root(
    setup_host, monkeypatch, capsys
):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup_host, "missing_for_venv", lambda: ["python3-venv"])
    monkeypatch.setattr(setup_host, "is_there", lambda _: False)
    monkeypatch.setattr(sys, "argv", ["setup_host.py", "test"])
    assert setup_host.main() == 1
    commands = [line for line in capsys.readouterr().err.splitlines() if "apt-get" in line]
    assert len(commands) == 1
    wanted = setup_host.missing_of("broker", "test") | {"python3-venv"}
    assert commands[0].endswith(f"--no-install-recommends {' '.join(sorted(wanted))}'")


def test_programs_are_asked_of_debian_by_their_package(setup_host, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(setup_host, "ROOT_FOLDERS", ())
    assert setup_host.missing_of("lint") == {"shellcheck", "systemd", "git"}
    assert setup_host.missing_of("disks") == {"mount", "btrfs-progs", "e2fsprogs"}


def test_a_program_for_root_is_there_though_it_is_not_in_the_users_path(
    setup_host, monkeypatch, tmp_path
):
    (tmp_path / "mkfs.ext4").touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(setup_host, "ROOT_FOLDERS", (str(tmp_path),))
    assert setup_host.missing_of("disks") == {"mount", "btrfs-progs"}


def test_a_file_is_looked_for_under_any_release(setup_host, tmp_path):
    assert not setup_host.is_there(f"{tmp_path}/*/server")
    (tmp_path / "server-3.10").mkdir()
    (tmp_path / "server-3.10" / "server").touch()
    assert setup_host.is_there(f"{tmp_path}/*/server")


def test_each_group_that_the_makefile_asks_for_is_known_and_each_known_one_is_asked_for(setup_host):
    """A group that no command asked for would be installed by nobody."""
    makefile = (SCRIPT.parents[1] / "Makefile").read_text(encoding="utf-8")
    asked = re.findall(r"^[a-z-]+:.*?\bneed-([a-z-]+)", makefile, re.MULTILINE)
    assert {group for groups in asked for group in groups.split("-")} == set(setup_host.NEEDS)


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
