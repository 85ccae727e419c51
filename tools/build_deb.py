"""Builds queue-appliance_VERSION_ARCH.deb with dpkg-deb. `make deb`.

Only what a maintainer script can't do without is in one (packaging/deb/); no debhelper, as there
is nothing to compile here and one package to make.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import install

SOURCES = install.ROOT / "packaging" / "deb"
#: Debian 12's and Debian 13's.
PYTHONS = ("3.11", "3.13")
SCRIPTS = ("postinst", "prerm", "postrm")
#: Everything below these is as the package has it; only this file is someone's to change.
SETTINGS = "/etc/appliance/appliance.env"


def main() -> int:
    """Build it, and print the path."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "versions", nargs="*", help="one package for each of these; else setup.cfg's version"
    )
    parser.add_argument("--output", default="dist", type=Path, help="folder to put it into")
    parser.add_argument(
        "--compression", default="xz", help="dpkg-deb's -Z; zstd takes a hundredth of the time"
    )
    options = parser.parse_args()
    architecture = run("dpkg", "--print-architecture").strip()
    options.output.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir(mode=0o755)
        pythons = {version: install.wheels_for(version) for version in PYTHONS}
        install.lay_out(root, Path(install.USUAL_PREFIX), "/usr/bin/python3", pythons)
        for version in options.versions or [setup_version()]:
            add_control_files(root, version, architecture)
            set_times(root)
            package = options.output / f"queue-appliance_{version}_{architecture}.deb"
            run(
                "dpkg-deb", "--root-owner-group", f"-Z{options.compression}",
                "--build", str(root), str(package),
            )  # fmt: skip
            print(package)
    return 0


def setup_version() -> str:
    """Return the version that setup.cfg has."""
    parser = configparser.ConfigParser()
    parser.read(install.ROOT / "setup.cfg")
    return parser["metadata"]["version"]


def add_control_files(root: Path, version: str, architecture: str) -> None:
    """Write DEBIAN/: what the package is, what it needs, and its scripts."""
    control = root / "DEBIAN"
    shutil.rmtree(control, ignore_errors=True)
    control.mkdir(mode=0o755)
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    kilobytes = sum(-(-path.stat().st_size // 1024) for path in files)
    text = (
        (SOURCES / "control")
        .read_text()
        .format(version=version, architecture=architecture, size=kilobytes)
    )
    (control / "control").write_text(text)
    (control / "conffiles").write_text(f"{SETTINGS}\n")
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n"  # noqa: S324
            for path in files if f"/{path.relative_to(root)}" != SETTINGS]  # fmt: skip
    (control / "md5sums").write_text("".join(sums))
    shutil.copy(SOURCES / "triggers", control / "triggers")
    for name in SCRIPTS:
        shutil.copy(SOURCES / name, control / name)
        (control / name).chmod(0o755)


def set_times(root: Path) -> None:
    """Give every file the time of the last commit, so that a build can be repeated bit by bit."""
    try:
        stamp = int(run("git", "-C", str(install.ROOT), "log", "-1", "--format=%ct"))
    except (OSError, ValueError):  # not a checkout
        return
    os.environ["SOURCE_DATE_EPOCH"] = str(stamp)
    for path in root.rglob("*"):
        os.utime(path, (stamp, stamp), follow_symlinks=False)


def run(*command: str) -> str:
    """Run a command; return what it prints."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
