"""The recipes of docs/send.md: their code blocks, run as they stand there."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from harness import APPLIANCE, Stack, wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "send.md"
#: How clients reach the appliance in the recipes: they set it as APPLIANCE_PUBLIC_URL.
PUBLIC_URL = "https://inbox.example.com"
#: Stands for the address that was made.
PLACEHOLDER = f"{PUBLIC_URL}/in/SECRET"

_CHAPTER = re.compile(r"^## Recipes\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Recipe(NamedTuple):
    """One section: its title, and its code blocks as (language, text)."""

    title: str
    blocks: list[tuple[str, str]]

    def block(self, language: str) -> str:
        """Return the only block in a language."""
        (text,) = (text for each, text in self.blocks if each == language)
        return text


def recipes() -> dict[str, Recipe]:
    """Return all recipes by their titles, in their order."""
    chapter = _CHAPTER.search(DOCUMENT.read_text())
    assert chapter, "docs/send.md has no recipes"
    return {
        title: Recipe(title, _BLOCK.findall(text)) for title, text in _SECTION.findall(chapter[1])
    }


class Kitchen:
    """A folder in which recipes are followed, beside a running appliance."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.address = ""
        (folder / "var").symlink_to(stack.data)

    def write(self, name: str, text: str) -> Path:
        """Write what the reader is told to write into a file."""
        path = self.folder / name
        path.write_text(text)
        return path

    def follow(self, recipe: Recipe) -> str:
        """Run the shell blocks, one after another; return the address that they made.

        What comes after the address was made runs with it in the placeholder's place.
        """
        for language, text in recipe.blocks:
            if language == "sh":
                printed = self.shell(self.filled(text))
                if not self.address:
                    (address,) = re.findall(rf"{PUBLIC_URL}/in/[\w-]+", printed)
                    self.address = address
        return self.address

    @property
    def local(self) -> str:
        """The address without the proxy that would be before it."""
        return self.address.replace(PUBLIC_URL, self.stack.url)

    def filled(self, text: str) -> str:
        """Return a block with the address that was made."""
        return text.replace(PLACEHOLDER, self.local) if self.address else text

    def shell(self, text: str, **env: str) -> str:
        """Run a block as a reader would paste it; return what it prints."""
        path = f"{Path(APPLIANCE).parent}{os.pathsep}{self.stack.env['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env={**self.stack.env, "PATH": path, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}\n{self.stack.logs()}"
        return done.stdout

    def ask(self, recipe: Recipe) -> list[tuple]:
        """Return the rows of the SQL block, without the time that each begins with."""
        return [tuple(row)[1:] for row in self.stack.query(recipe.block("sql"))]

    def wait_for(self, recipe: Recipe, rows: list[tuple]) -> None:
        """Wait until the SQL block finds these rows."""
        wait_until(
            lambda: self.ask(recipe) == rows,
            f"the SQL finds {rows}",
            15,
            lambda: f"{self.ask(recipe)}\n{self.stack.logs()}",
        )
