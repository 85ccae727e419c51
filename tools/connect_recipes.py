"""Writes the recipes of the console's page Connect, from docs/send.md.

    python tools/connect_recipes.py

So there is one source: the tests run the recipes as docs/send.md has them, and a test holds the
console's file to it.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "docs" / "send.md"
TARGET: Final = ROOT / "appliance" / "console" / "recipes.json"
#: Sections before the recipes that are recipes too: how they are called on the page.
SECTIONS: Final = {
    "Send messages": "curl",
    "Repeat safely": "Repeat safely",
    "Many messages at once": "Many messages at once",
    "From the command line": "Command line",
}
_SECTION: Final = re.compile(r"^(#{1,3}) ([^\n]+)\n(.*?)(?=^#{1,3} |\Z)", re.MULTILINE | re.DOTALL)
_PART: Final = re.compile(
    r"^```(\w+)\n(.*?)^```$|^(?!```)(\S.*?)(?=\n\n|\n```|\Z)", re.MULTILINE | re.DOTALL
)
_RUN: Final = re.compile(r"`([^`]+)`")


def recipes() -> list[dict[str, Any]]:
    """Return the recipes in their order: a title, and parts that are prose or code."""
    text = SOURCE.read_text()
    code_free = _masked(text)
    found, within = [], False
    for match in _SECTION.finditer(code_free):
        level, title = len(match[1]), match[2]
        if level < 3:
            within = title == "Recipes"
        if title in SECTIONS or (within and level == 3):
            parts = _parts(text[match.start(3) : match.end(3)])
            found.append({"title": SECTIONS.get(title, title), "parts": parts})
    return found


def page() -> str:
    """Return the file as it should be."""
    return json.dumps(recipes(), indent=1, ensure_ascii=False) + "\n"


def _masked(text: str) -> str:
    """Return the text with the comments in its code made harmless, of the same length."""
    blocks = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    return blocks.sub(lambda match: match[0].replace("#", "-"), text)


def _parts(text: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for language, code, prose in _PART.findall(text):
        if code:
            parts.append({"language": language, "code": code.rstrip("\n")})
        elif prose.strip():
            parts.append({"prose": _runs(" ".join(prose.split()))})
    return parts


def _runs(prose: str) -> list[list[str]]:
    """Return prose as runs of plain words and of code; links are their words, emphasis is none."""
    plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", prose)
    plain = re.sub(r"(?<![\w*])\*([^*]+)\*(?![\w*])", r"\1", plain)
    runs = []
    for n, run in enumerate(_RUN.split(plain)):
        if run:
            runs.append(["code" if n % 2 else "text", run])
    return runs


if __name__ == "__main__":
    TARGET.write_text(page())
