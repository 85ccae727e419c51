"""The command of a host finds the settings of the services and acts as their user."""

import os
import pwd
import subprocess
import sys

import pytest

from appliance.cli import host
from appliance.errors import ConfigError


def settings(tmp_path, *texts):
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"{number}.env")
        paths[-1].write_text(text)
    return host.read_settings(tuple(paths))


def test_settings_are_read_as_systemd_reads_them(tmp_path):
    text = "# a comment\n; another\n\nA=1\n B = two words \nC='quoted'\nD=\"x=y\"\nE=\n"
    assert settings(tmp_path, text) == {
        "A": "1", "B": "two words", "C": "quoted", "D": "x=y", "E": "",
    }  # fmt: skip


def test_a_later_file_wins(tmp_path):
    assert settings(tmp_path, "A=1\nB=1\n", "B=2\n") == {"A": "1", "B": "2"}


def test_a_file_that_is_not_there_is_left_out(tmp_path):
    assert host.read_settings((tmp_path / "none",)) == {}


@pytest.mark.parametrize("line", ["APPLIANCE_DATA", "=x", "export A=1", "A B=1"])
def test_a_line_that_is_no_setting_is_named(tmp_path, line):
    with pytest.raises(ConfigError, match=r"0\.env, line 2: expected NAME=VALUE"):
        settings(tmp_path, f"A=1\n{line}\n")


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Run the command's preparation in a process of its own, as root; return what it prints."""
    assert os.geteuid() == 0, "this test steps down from root: run it as root"
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "token").write_text("the-long-token-of-a-test\n")
    (data / "token").chmod(0o600)
    user = pwd.getpwnam("nobody")
    for path in (data, data / "token"):
        os.chown(path, user.pw_uid, user.pw_gid)
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(path.stat().st_mode | 0o055)
    file = tmp_path / "settings.env"
    file.write_text(f"APPLIANCE_DATA={data}\nAPPLIANCE_TOKEN_FILE={data}/token\n")

    def run(*arguments, **environment):
        program = (
            "import os, sys\nfrom pathlib import Path\nfrom appliance.cli import host\n"
            f"host._USER, host._SETTINGS = 'nobody', (Path({str(file)!r}),)\n"
            "host._prepare(sys.argv[1:], os.environ)\n"
            "print(os.geteuid(), os.getegid(), os.getgroups(), os.environ['APPLIANCE_DATA'],"
            " os.environ.get('APPLIANCE_TOKEN'), os.environ.get('APPLIANCE_TOKEN_FILE'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run.data, run.user = data, user
    return run


def test_root_steps_down_to_the_services_user(prepared):
    user = prepared.user
    assert prepared("status") == (
        f"{user.pw_uid} {user.pw_gid} [{user.pw_gid}] {prepared.data} None {prepared.data}/token"
    )


@pytest.mark.parametrize("options", [("--to", "sqlite:"), ("--to-file=/etc/url",), ("--undo",)])
def test_root_steps_down_before_it_moves_the_database(prepared, options):
    assert prepared("export", *options).startswith(f"{prepared.user.pw_uid} ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "orders"),
        ("publish", "orders", "hello"),
        ("inbox", "create", "a", "--secret-file", "/root/secret"),
        ("schema", "set", "orders", "--file", "/root/schema.json"),
        ("endpoint", "create", "a", "https://example.com", "--secret-file", "/root/secret"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_root_reads_its_own_files_with_the_services_token(prepared, arguments):
    assert prepared(*arguments) == (
        f"0 0 {os.getgroups()} {prepared.data} the-long-token-of-a-test None"
    )


def test_a_setting_of_the_caller_wins(prepared):
    shown = prepared("status", APPLIANCE_DATA="/srv/other", APPLIANCE_TOKEN="given-by-the-caller")
    assert shown.endswith("/srv/other given-by-the-caller None")


def test_a_caller_who_can_not_read_the_settings_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_SETTINGS", (tmp_path / "none",))
    with pytest.raises(ConfigError, match="use sudo, or set APPLIANCE_TOKEN"):
        host._refuse_who_may_not(["status"], {})
    for arguments, environ in (
        (["--help"], {}),
        (["publish", "--help"], {}),
        (["status"], {"APPLIANCE_TOKEN": "given-by-the-caller"}),
    ):
        host._refuse_who_may_not(arguments, environ)
