"""Versions before this one, for tests of an upgrade: their code, taken out of git."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from harness import Stack

ROOT = Path(__file__).parents[2]


class Version(NamedTuple):
    """A program that people can have on their data; `schema` counts the migrations it knows."""

    commit: str
    schema: int
    has_meta: bool


VERSIONS = (
    # the last one that kept nothing of a request but its body
    Version("2de8cfeccf5b5139e0a8b7609b68e495e6b9fd7c", schema=3, has_meta=False),
    # the last one before this
    Version("b109a639693ecf289dbed6a3d131b12a57cab62c", schema=11, has_meta=True),
)

#: One that has endpoints, subscriptions and delayed messages.
OUTWARD = Version("9eb19e0c4a585734ac918e530dc5fd1c903193eb", schema=16, has_meta=True)


def take_out(version: Version, folder: Path) -> Path:
    """Lay a version's package out in `folder`; return where Python finds it."""
    # A checkout can belong to someone else than the user who runs the tests.
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
    archive = subprocess.run(
        [*git, "archive", version.commit, "appliance"], capture_output=True, check=False
    )
    assert archive.returncode == 0, (
        f"commit {version.commit[:7]} is not there: {archive.stderr.decode().strip()}\nThe test of "
        "an upgrade runs earlier versions, out of the repository's history. Clone it whole, or get "
        "the history with `git fetch --unshallow`."
    )
    folder.mkdir()
    subprocess.run(["tar", "--extract", "--directory", folder], input=archive.stdout, check=True)
    return folder


def run_by(stack: Stack, code: Path | None) -> None:
    """Let everything that `stack` starts from now on be of this code; None: today's."""
    for env in (stack.env, *(process.env for process in stack.processes)):
        if code is None:
            env.pop("PYTHONPATH", None)
        else:
            env["PYTHONPATH"] = str(code)
