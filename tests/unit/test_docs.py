"""The documents are held to the code: settings, commands, calls, links."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context

from appliance import config
from appliance.api.http import problems
from appliance.api.openapi import describe
from appliance.cli import _COMMANDS, _cli
from appliance.errors import ApplianceError

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "systemd" / "README.md"])


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request):
    return request.param


def test_the_readmes_table_has_every_setting_with_its_default_and_help():
    rows = re.findall(
        r"^\| `(APPLIANCE_\w+)` \| (.*?) \| (.*?) \|$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    expected = [(s.name, f"`{s.default}`" if s.default else "", s.help) for s in config.settings()]
    assert rows == expected


def test_settings_that_documents_name_exist(document):
    names = {s.name for s in config.settings()}
    names |= {f"{s.name}_FILE" for s in config.settings() if s.secret}
    named = set(re.findall(r"\bAPPLIANCE_[A-Z_]*[A-Z]\b", document.read_text()))
    assert named <= names


def test_commands_that_documents_name_exist(document):
    text = document.read_text()
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^    (.*)", text, re.MULTILINE)
    named = {name for span in code for name in re.findall(r"(?:^|[/( ])appliance ([a-z]+)\b", span)}
    assert named <= set(_COMMANDS)


def test_make_targets_that_documents_name_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", document.read_text(), re.MULTILINE))
    assert named <= targets


def test_links_to_files_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_interfaces_table_has_every_call():
    text = (ROOT / "docs" / "interface.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z]+) (/\S*)` \|", text, re.MULTILINE))
    described = {
        (method.upper(), path)
        for path, operations in describe(config.load({}), "0")["paths"].items()
        for method in operations
        if method in {"get", "post", "delete"}
    }
    assert documented == described


def test_problem_types_that_the_interface_names_are_those_of_the_code():
    classes = [ApplianceError]
    for each in classes:
        classes += each.__subclasses__()
    made = [problems.of(each.__new__(each)) for each in classes]
    made += [problems.unauthorized(), problems.not_found(""), problems.method_not_allowed([])]
    made += [problems.bad_request("")]
    known = {(problem.status, problem.type.rpartition(":")[2]) for problem in made}
    known.add((408, "about:blank"))
    rows = re.findall(
        r"^\| (\d{3}) \| (`.*?`) \|", (ROOT / "docs" / "interface.md").read_text(), re.MULTILINE
    )
    assert rows
    for status, types in rows:
        for name in re.findall(r"`(.+?)`", types):
            assert (int(status), name) in known


def test_every_command_has_help_with_examples():
    context = Context(_cli)
    names = ["publish", "tail", "status", "dead", "token", "config", "run", "ctl"]
    for name in [*names, "backup", "restore", "doctor", "verify"]:
        assert "Example" in _cli.get_command(context, name).help


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_every_command_answers_help(name):
    command = [sys.executable, "-m", "appliance", name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: appliance")


def test_the_data_tables_columns_are_documented():
    text = (ROOT / "README.md").read_text()
    source = (ROOT / "appliance" / "store" / "sqlite" / "migrations.py").read_text()
    for table, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n        \)", source, re.DOTALL):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{table}` |"))
        for column in re.findall(r"^            (\w+) (?:TEXT|INTEGER|BLOB)", body, re.MULTILINE):
            assert f"`{column}`" in row
