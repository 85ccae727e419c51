"""Erlang's modules in one folder, so that a start doesn't look for each of them in eighty.

A node loads nearly a thousand modules when it starts. Erlang looks for a module in one folder of
its path after another, and the path has one for each part of Erlang and each plugin of RabbitMQ: a
start looked for 45,000 files that are not there, with two fifths of its CPU time. So there is a
folder of links to the modules that RabbitMQ needs, in which Erlang looks first. It still finds
anything else in its own place.

RabbitMQ 4 gains nothing from it: the Erlang below it looks for files more cheaply.
"""

import contextlib
import re
import shutil
import zlib
from pathlib import Path
from typing import Final

#: Debian's folder of Erlang's applications.
_ERLANG: Final = Path("/usr/lib/erlang/lib")
#: Where to begin: what Erlang itself starts, the server, and its database.
_ROOTS: Final = ("kernel", "stdlib", "sasl", "rabbit", "mnesia")
_PREFIX: Final = "modules-"


def gathered(run_folder: Path, server: Path, erlang: Path = _ERLANG) -> Path | None:
    """Return the folder of links to the modules that the start script `server` will need.

    It lies in `run_folder`. It is made where there is none of these very modules, and those of
    other releases go. None where it can't be made: a start then only takes longer.
    """
    with contextlib.suppress(OSError):
        folders = _needed(erlang, server.parent.parent / "plugins")
        state = "\n".join(f"{each} {each.stat().st_mtime_ns}" for each in folders)
        made = run_folder / f"{_PREFIX}{zlib.crc32(state.encode()):08x}"
        if not made.is_dir():
            for old in run_folder.glob(f"{_PREFIX}*"):
                shutil.rmtree(old, ignore_errors=True)
            _link(folders, made)
        return made
    return None


def _needed(erlang: Path, plugins: Path) -> list[Path]:
    """Return the folders of the modules of every application that RabbitMQ needs."""
    places = {
        folder.name.rpartition("-")[0]: folder / "ebin"
        for parent in (erlang, plugins)
        for folder in sorted(parent.iterdir())
    }
    needed: dict[str, None] = {}
    waiting = list(_ROOTS)
    while waiting:
        name = waiting.pop()
        if name in places and name not in needed:
            needed[name] = None
            waiting += _applications(places[name] / f"{name}.app")
    return [places[name] for name in needed]


def _applications(resource: Path) -> list[str]:
    """Return what an application's resource file says it needs."""
    lists = re.findall(r"\{(?:included_)?applications,\s*\[([^\]]*)\]", resource.read_text())
    return [name.strip().strip("'") for text in lists for name in text.split(",") if name.strip()]


def _link(folders: list[Path], made: Path) -> None:
    """Make the folder of links, whole or not at all."""
    draft = made.with_name(f"{made.name}.part")
    draft.mkdir(mode=0o700, parents=True)
    for folder in folders:
        for module in folder.glob("*.beam"):
            (draft / module.name).symlink_to(module)
    draft.rename(made)
