"""The command line without an appliance: help, misspelt words, settings, hints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from appliance.cli import _SECTIONS, _cli
from appliance.cli.commands.ctl import check_names
from appliance.cli.text.dead_text import hints

APPLIANCE = str(Path(sys.executable).with_name("appliance"))
PROCESSES = _SECTIONS["Processes (for supervisord and systemd)"]


@pytest.fixture
def command(tmp_path):
    """Run `appliance` with some settings, its data in a folder of the test's own."""

    def run(*arguments, **settings):
        environ = {
            "PATH": os.environ["PATH"], "APPLIANCE_DATA": str(tmp_path),
            "XDG_STATE_HOME": str(tmp_path / "state"), **settings,
        }  # fmt: skip
        return subprocess.run(
            [APPLIANCE, *arguments],
            env=environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


def commands(group=_cli, path=()):
    """Every command and subcommand that click knows, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))


ALL = dict(commands())


def test_the_commands_are_found_with_their_subcommands():
    assert {("publish",), ("drill",), ("dead",), ("dead", "redrive")} <= set(ALL)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_a_command_has_help_with_examples(words):
    if words[0] not in PROCESSES:
        assert "Example" in ALL[words].help
    assert ALL[words].help.split("\n")[0].endswith((".", "2."))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_options_of_a_command_are_explained_in_sentences(words):
    for parameter in ALL[words].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help[0].isupper(), parameter.help


def test_a_token_that_can_be_guessed_is_refused_at_start_with_what_to_do(command):
    done = command("api", APPLIANCE_TOKEN="hunter2")
    assert done.returncode == 78
    assert done.stderr.startswith("appliance: APPLIANCE_TOKEN: expected 22 characters or more")
    assert "openssl rand -hex 16" in done.stderr
    assert "hunter2" not in done.stderr


def test_the_help_has_sections_and_says_what_json_is(command):
    text = command("--help").stdout
    titles = [f"{title}:" for title in _SECTIONS]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert "prints nothing but JSON on standard output" in text


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["pubish"], "'publish'"), (["stauts"], "'status'"), (["dead", "redirve"], "'redrive'")],
)
def test_a_misspelt_command_gets_a_hint(command, words, hint):
    done = command(*words)
    assert done.returncode == 2
    assert f"no such command {words[-1]!r}; did you mean {hint}?" in done.stderr


def test_a_command_like_no_other_gets_no_hint(command):
    done = command("xyzzy")
    assert done.returncode == 2
    assert "did you mean" not in done.stderr


@pytest.mark.parametrize(
    ("topic", "hint"),
    [("GitHub", "; try 'github'"), ("Bad Topic!", "; try 'bad-topic'"), ("***", "")],
)
def test_a_topic_of_a_wrong_form_gets_a_hint(command, topic, hint):
    done = command("publish", topic, "x")
    assert done.returncode == 2
    assert f"begins with a letter or a digit{hint}\n" in done.stderr


def test_a_file_that_is_no_text_is_not_sent_line_by_line(command, tmp_path):
    path = tmp_path / "bin"
    path.write_bytes(bytes(range(256)))
    done = command("publish", "photos", "--file", str(path))
    assert done.returncode == 2
    assert f"{path} is not text: --whole sends it as one message" in done.stderr


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_a_windows_file_is_not_cut_and_gets_a_hint(command, tmp_path, codec):
    path = tmp_path / "u16.txt"
    path.write_bytes("\ufeffline one\nline two\n".encode(codec))
    done = command("publish", "logs", "--file", str(path))
    assert done.returncode == 2
    assert "iconv -f utf-16 -t utf-8" in done.stderr


def test_a_file_in_an_encoding_of_one_byte_is_text(command, tmp_path):
    path = tmp_path / "latin"
    path.write_bytes("Straße\tÜbung\r\n".encode("latin-1"))
    done = command("publish", "a", "--file", str(path), "--timeout", "0")
    assert done.returncode == 69  # it went on to look for the API


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(command, shell):
    done = command("completion", shell)
    assert done.returncode == 0, done.stderr
    assert f"{shell}_complete" in done.stdout


def test_completion_knows_the_commands(command):
    done = command(_APPLIANCE_COMPLETE="bash_complete", COMP_WORDS="appliance pub", COMP_CWORD="1")
    assert done.stdout == "plain,publish\n"


def test_config_shows_settings_as_they_were_written(command):
    settings = {"APPLIANCE_MIN_FREE_BYTES": "0", "APPLIANCE_TOKEN": "very-secret-and-not-short"}
    text = command("config", **settings).stdout
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines()}
    assert rows["APPLIANCE_BACKUP_EVERY"] == "off default"
    assert rows["APPLIANCE_QUEUE_MAX_BYTES"] == "1GiB default"
    assert rows["APPLIANCE_MIN_FREE_BYTES"] == "0 environment (default 256MiB)"
    assert rows["APPLIANCE_TOKEN"] == "******** environment"
    assert "very-secret-and-not-short" not in text


def test_config_as_json_has_the_value_in_force_and_the_text(command):
    done = command("config", "--json", APPLIANCE_TOKEN="very-secret-and-not-short")
    shown = json.loads(done.stdout)
    assert shown["APPLIANCE_QUEUE_MAX_BYTES"] == {
        "value": "1073741824", "text": "1GiB", "source": "default",
    }  # fmt: skip
    assert "very-secret-and-not-short" not in done.stdout


NAMES = ["api", "broker", "janitor", "worker:worker_0", "worker:worker_1"]


@pytest.mark.parametrize(
    ("argument", "hint"),
    [("worker", "'worker:\\*'"), ("worker_1", "'worker:worker_1'"), ("janitr", "'janitor'")],
)
def test_ctl_names_the_program_that_was_meant(argument, hint):
    with pytest.raises(click.UsageError, match=f"did you mean {hint}"):
        check_names([argument], NAMES)


def test_ctl_lets_names_and_options_pass():
    programs = ["all", "api", "api:*", "worker:*", "worker:worker_0"]
    check_names(["-f", "-100", *programs, "stderr", "x"], NAMES)
    check_names(["anything"], [])


def test_ctl_without_supervisord_is_not_reachable(command):
    done = command("ctl", "status")
    assert done.returncode == 69
    assert "is the appliance running" in done.stderr


def test_the_reasons_of_dead_letters_are_explained():
    lines = hints(["unstorable", "broker-expired", "unstorable", "of-another-version"])
    assert [line.partition(":")[0] for line in lines] == ["broker-expired", "unstorable"]
