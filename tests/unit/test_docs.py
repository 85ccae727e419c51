"""The documents are held to the code, both ways: settings, commands, calls, problems, links."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click import Context

from appliance import config
from appliance.api.openapi import describe
from appliance.cli import _COMMANDS, _cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "systemd" / "README.md"])
#: Parts of a document that are not prose.
CODE_BLOCK = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request):
    return request.param


def code(path: Path) -> list[str]:
    """The lines of a document's code blocks, and its code within lines, but not log events."""
    text = path.read_text()
    lines = [line.strip() for block in CODE_BLOCK.finditer(text) for line in block[0].splitlines()]
    within = re.findall(r"`([^`\n]+)`", CODE_BLOCK.sub("", text))
    return lines + [span for span in within if path.name != "log-events.md"]


# --- settings ---------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """The sections of docs/settings.md that begin with a setting's name."""
    text = (DOCS / "settings.md").read_text()
    return dict(
        re.findall(r"^## (APPLIANCE_\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    )


def test_every_setting_has_a_heading_in_its_order_and_every_heading_a_setting():
    assert list(sections()) == [setting.name for setting in config.settings()]


@pytest.mark.parametrize("setting", config.settings(), ids=lambda setting: setting.name)
def test_a_settings_section_shows_default_allowed_values_and_an_example(setting):
    text = sections()[setting.name]
    default = re.search(r"^Default: (`[^`]+`|none)", text, re.MULTILINE)
    assert default, "no line that begins with Default:"
    assert default[1] == (f"`{setting.default}`" if setting.default else "none")
    assert re.search(r"^Allowed: ", text, re.MULTILINE)
    assert f"{setting.name}_FILE" in text or not setting.secret
    example = re.search(r"^Example: `(APPLIANCE_\w+)=(.*)`$", text, re.MULTILINE)
    assert example, "no example"
    if example[1] == setting.name:
        setting.parse(example[2].strip('"'))  # raises where it isn't allowed
    else:
        assert example[1] == f"{setting.name}_FILE"


def test_settings_that_documents_name_exist(document):
    names = {s.name for s in config.settings()}
    names |= {f"{s.name}_FILE" for s in config.settings() if s.secret}
    named = set(re.findall(r"\bAPPLIANCE_[A-Z_]*[A-Z]\b", document.read_text()))
    assert named <= names


# --- commands ---------------------------------------------------------------------------------


def commands(
    group: click.Group = _cli, above: str = "appliance"
) -> Iterator[tuple[str, click.Command]]:
    """Every command and every subcommand with its whole name, as click knows them."""
    context = Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")


def examples() -> list[tuple[str, str]]:
    """Each `appliance ...` of a shell block, as (document, command up to a pipe or a comment)."""
    found = []
    for path in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
            for whole in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^(\.venv/bin/|docker exec (-it )?inbox |sudo )", "", whole.strip())
                if line.startswith("appliance "):
                    found.append((str(path.relative_to(ROOT)), line))
    return found


def test_every_command_has_a_heading_and_every_heading_a_command():
    text = (DOCS / "commands.md").read_text()
    headings = re.findall(r"^###? (appliance [a-z -]+)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(name for name, _ in commands())


def test_commands_that_documents_name_exist(document):
    names = {name for name, _ in commands()}
    for span in code(document):
        for name in re.findall(r"^(?:[.\w/]*bin/|sudo |docker exec .*)?appliance ([a-z]+)\b", span):
            assert f"appliance {name}" in names, span


@pytest.mark.parametrize(("where", "line"), examples())
def test_a_command_of_a_shell_block_is_one_that_click_understands(where, line):
    words = shlex.split(re.split(r" [|>#&]", line)[0])[1:]
    command: click.Command = _cli
    context = Context(command)
    while isinstance(command, click.Group) and (words or not command.invoke_without_command):
        inner = command.get_command(context, words[0])
        assert inner is not None, f"{where}: {line}"
        command, words = inner, words[1:]
        context = Context(command, **command.context_settings)
    parsed, rest, _ = command.make_parser(context).parse_args(list(words))
    assert not rest, f"{where}: {line}: {rest} is too much"
    for parameter in command.params:
        assert not parameter.required or parsed.get(parameter.name), (
            f"{where}: {line}: {parameter.name}"
        )


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_every_command_answers_help(name):
    command = [sys.executable, "-m", "appliance", name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: appliance")


def test_every_command_that_people_call_has_help_with_examples():
    processes = {
        f"appliance {n}"
        for n in ("broker", "migrate", "api", "worker", "janitor", "deliver", "handle", "listener")
    }
    for name, command in commands():
        assert name in processes or "Example" in (command.help or ""), name


def test_make_targets_that_documents_name_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for span in code(document) for name in re.findall(r"^make ([a-z-]+)", span)}
    assert named <= targets


def test_contributing_lists_the_make_targets_that_check_the_code():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for name in targets:
        if name == "lint" or name.startswith(("test", "check", "bench")):
            assert re.search(rf"^make {name}\b", text, re.MULTILINE), name


# --- the interface ----------------------------------------------------------------------------


def test_every_call_is_in_the_table_and_every_row_is_a_call():
    text = (DOCS / "http-api.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z]+) (/\S*)` \|", text, re.MULTILINE))
    described = {
        (method.upper(), path)
        for path, operations in describe(config.load({}), "0")["paths"].items()
        for method in operations
        if method in {"get", "post", "put", "patch", "delete"}
        and not (method == "put" and "post" in operations)  # the row of POST tells of it
    }
    assert documented == described


def problems() -> set[tuple[str, str, str]]:
    """Status, type and title of each problem, as they stand in the code one after another."""
    found = set()
    for path in (ROOT / "appliance" / "api").rglob("problems.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Tuple):
                parts = node.elts
            elif isinstance(node, ast.Call):
                parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            else:
                continue
            words = [literal(part) for part in parts]
            for status, name, title in zip(words, words[1:], words[2:], strict=False):
                if (
                    isinstance(status, int)
                    and 400 <= status < 600
                    and isinstance(name, str)
                    and title
                ):
                    found.add((str(status), name, str(title)))
    return {problem for problem in found if problem[1] != "about:blank"}


def literal(node: ast.expr) -> int | str | None:
    """Return a constant, or the constant that a prefix is put before."""
    if isinstance(node, ast.BinOp):
        node = node.right
    return node.value if isinstance(node, ast.Constant) else None


def test_every_problem_is_in_the_table_and_every_row_is_a_problem():
    text = (DOCS / "http-api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \| (.+?) \| .+ \|$", text, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == problems()


def test_the_table_of_problems_is_in_order():
    text = (DOCS / "http-api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", text, re.MULTILINE)
    assert rows == sorted(rows)


def test_problem_types_that_documents_name_exist():
    names = {name for _, name, _ in problems()}
    text = (DOCS / "troubleshoot.md").read_text()
    named = set(re.findall(r"^\| [45]\d\d `([a-z-]+)`", text, re.MULTILINE))
    assert named
    assert named <= names


def test_messages_that_the_trouble_tables_quote_are_those_of_the_code():
    rows = re.findall(r"^\|.*\|$", (DOCS / "troubleshoot.md").read_text(), re.MULTILINE)
    quotes = {quote for row in rows for quote in re.findall(r'"([^"]+)"', row)}
    assert len(quotes) > 5
    words = [
        node.value
        for path in (ROOT / "appliance").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert {quote for quote in quotes if not any(quote in text for text in words)} == set()


def test_the_data_tables_columns_are_documented():
    text = (DOCS / "read.md").read_text()
    path = next((ROOT / "appliance" / "store").rglob("migrations.py"))
    tables = re.findall(r"CREATE TABLE (\w+) \((.*?)\n        \)", path.read_text(), re.DOTALL)
    assert tables
    for table, body in tables:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{table}` |"))
        for column in re.findall(r"^            (\w+) (?:TEXT|INTEGER|BLOB)", body, re.MULTILINE):
            assert f"`{column}`" in row


def test_reasons_of_dead_letters_are_documented():
    text = (DOCS / "durability.md").read_text()
    documented = set()
    for row in re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| .+ \| .+ \|$", text, re.MULTILINE):
        documented |= set(re.findall(r"`([a-z-]+)`", row))
    code = "\n".join(path.read_text() for path in (ROOT / "appliance").rglob("*.py"))
    for reason in documented - {"refused", "not-confirmed"}:
        word = reason.removeprefix("broker-").replace("-", "_")
        assert f'"{word}"' in code or f'"{reason}"' in code, reason


def test_actions_of_the_audit_trail_are_documented():
    rows = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| [^|]+ \|$",
                      (DOCS / "tokens.md").read_text(), re.MULTILINE)  # fmt: skip
    documented = {name for row in rows for name in re.findall(r"`([a-z]+-[a-z-]+)`", row)}
    code = "\n".join(path.read_text() for path in (ROOT / "appliance").rglob("*.py"))
    found = set(re.findall(r"[Dd]eed\(\s*(?:by, |actor\(\), )?\"([a-z]+-[a-z-]+)\"", code))
    assert documented == found


# --- links and pictures -----------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors that headings get: lower case, no punctuation, dashes for spaces."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(f"{name}-{number}" if number else name)
    return found


def test_links_lead_to_files_and_headings_that_exist(document):
    text = CODE_BLOCK.sub("", document.read_text())
    targets = re.findall(r"\]\(\s*(?!https?:)([^)\s]+)\s*\)", text) + re.findall(
        r'src="([^"]+)"', text
    )
    for target in targets:
        path, _, anchor = target.partition("#")
        goal = document.parent / path if path else document
        assert goal.exists(), target
        if anchor:
            assert anchor in anchors(goal.read_text()), target


def test_every_picture_has_words_for_those_who_do_not_see_it(document):
    text = document.read_text()
    for words in re.findall(r"!\[(.*?)\]\(", text, re.DOTALL) + re.findall(
        r'<img [^>]*alt="(.*?)"', text
    ):
        assert len(words) > 10, words
    assert text.count("<img ") == len(re.findall(r"<img [^>]*alt=", text))


@pytest.mark.parametrize("index", [DOCS / "README.md", DOCS / "decisions" / "README.md"])
def test_an_index_links_to_every_page_beside_it(index):
    linked = set(re.findall(r"\]\(([^)#]+)\)", index.read_text()))
    pages = {path.name for path in index.parent.glob("*.md")} - {"README.md"}
    assert pages <= linked


# --- words ------------------------------------------------------------------------------------


def prose(path: Path) -> str:
    """A document without its code."""
    return re.sub(r"`[^`]*`", "`", CODE_BLOCK.sub("", path.read_text()))


def test_documents_do_not_begin_sentences_with_what_or_whoever(document):
    begun = re.findall(
        r"(?:^|[.:!?|] +|^[-*] )((?:What|Who|Which)(?:so)?(?:ever)?\b.*)",
        prose(document),
        re.MULTILINE,
    )
    assert begun == []


def test_documents_name_things_rather_than_say_what_they_are():
    text = " ".join(prose(path) for path in DOCUMENTS)
    share = len(re.findall(r"\bwhat\b", text, re.IGNORECASE)) / len(text.split())
    assert share <= 0.001


def test_documents_are_wrapped_at_a_hundred_columns(document):
    figures = re.compile(r"<!-- figures: begin -->.*<!-- figures: end -->", re.DOTALL)
    text = CODE_BLOCK.sub("", figures.sub("", document.read_text()))
    lines = [line for line in text.splitlines() if len(line) > 100 and not line.startswith("|")]
    assert lines == []
