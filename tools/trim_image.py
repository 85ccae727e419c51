"""Remove from the image what no process of the appliance reads. Runs inside the build, as root.

The package database stays, so that scanners see what is installed and `apt-get` still works, and
so do the licences.
"""

import re
import shutil
import stat
import subprocess
from pathlib import Path

RABBITMQ = Path("/usr/lib/rabbitmq/lib")
ERLANG = Path("/usr/lib/erlang/lib")

#: Where to begin: what Erlang itself starts, RabbitMQ, what RabbitMQ starts without saying so, and
#: the one plugin that a setting switches on.
ROOTS = ("kernel", "stdlib", "sasl", "rabbit", "mnesia", "rabbitmq_mqtt")

#: Folders that are emptied; each is made anew by whoever needs it.
EMPTIED = ("/usr/share/man", "/usr/share/info", "/usr/share/locale", "/usr/share/lintian",
           "/usr/share/bash-completion", "/usr/share/bug", "/var/cache", "/var/lib/apt/lists",
           "/var/log", "/var/lib/rabbitmq", "/tmp")  # noqa: S108  # emptied  # fmt: skip

#: Parts of Python's library that only developers use.
PYTHON_UNUSED = ("ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "turtledemo", "tkinter")

#: Imports every module of ours and so all that they need; Python keeps the byte code.
IMPORT_ALL = """
import importlib, pkgutil, appliance
for module in pkgutil.walk_packages(appliance.__path__, "appliance."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import encodings.idna, supervisor.supervisorctl, supervisor.xmlrpc, sqlite_utils.cli, yaml
"""


def main() -> None:
    """Remove all of it."""
    for folder in EMPTIED:
        for entry in Path(folder).iterdir() if Path(folder).is_dir() else ():
            remove(entry)
    for entry in Path("/usr/share/doc").rglob("*"):
        if entry.name != "copyright" and not entry.is_dir():
            entry.unlink()
    trim_erlang()
    for library in Path("/usr/lib").glob("python3.*"):
        for name in PYTHON_UNUSED:
            remove(library / name)
    for conversions in Path("/usr/lib").glob("*-linux-gnu*/gconv"):
        remove(conversions)  # of character sets: neither Python nor Erlang asks the C library
    for folder in (Path("/usr/lib"), Path("/usr/share"), Path("/opt")):
        for cache in list(folder.rglob("__pycache__")):
            remove(cache)
    compile_what_is_used()
    drop_set_user_id()


def remove(path: Path) -> None:
    """Remove a file or a folder; one that is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def trim_erlang() -> None:
    """Keep of Erlang's and RabbitMQ's applications those that RabbitMQ and its MQTT plugin need."""
    folders = {
        folder.name.rpartition("-")[0]: folder
        for parent in (ERLANG, *RABBITMQ.glob("*/plugins"))
        for folder in parent.iterdir()
        if folder.is_dir()
    }
    needed: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name not in needed and name in folders:
            needed.add(name)
            waiting += applications(folders[name] / "ebin" / f"{name}.app")
    for name, folder in folders.items():
        if name not in needed:
            remove(folder)
    print("Erlang applications kept:", *sorted(needed))


def applications(resource: Path) -> list[str]:
    """Return what an application's resource file says it needs."""
    lists = re.findall(r"\{(?:included_)?applications,\s*\[([^\]]*)\]", resource.read_text())
    return [name.strip().strip("'") for text in lists for name in text.split(",") if name.strip()]


def compile_what_is_used() -> None:
    """Keep the byte code of what our processes import, and of nothing else.

    Without any, each of the five compiles it anew at every start of a read-only container: three
    times the time until the first message is taken. All of it would be larger than the processes.
    """
    subprocess.run(
        ["/opt/appliance/bin/python", "-c", IMPORT_ALL],
        check=True,
        env={"PATH": "/opt/appliance/bin:/usr/bin:/bin"},
    )


def drop_set_user_id() -> None:
    """Take from every program the right to act as another user: nothing here needs it."""
    for folder in ("/usr", "/opt"):
        for path in Path(folder).rglob("*"):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & 0o777)


if __name__ == "__main__":
    main()
