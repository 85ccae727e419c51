"""The version before this one, for tests of an upgrade: its code, taken out of git."""

import subprocess
from pathlib import Path

from harness import Stack

ROOT = Path(__file__).parents[2]
#: The last commit whose program people can have on their data: it has no meta, no inbox addresses.
COMMIT = "2de8cfeccf5b5139e0a8b7609b68e495e6b9fd7c"
#: Its schema: the number of migrations that it knows.
SCHEMA = 3


def take_out(folder: Path) -> Path:
    """Lay the previous version's package out in `folder`; return where Python finds it."""
    # A checkout can belong to someone else than the user who runs the tests.
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
    archive = subprocess.run(
        [*git, "archive", COMMIT, "appliance"], capture_output=True, check=False
    )
    assert archive.returncode == 0, (
        f"commit {COMMIT[:7]} is not there: {archive.stderr.decode().strip()}\nThe test of an "
        "upgrade runs the previous version, out of the repository's history. Clone it whole, or "
        "get the history with `git fetch --unshallow`."
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
