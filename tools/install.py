"""Lays the appliance out for a host: program, units, settings, documents.

`make install` calls it, and `make deb` uses it.

One virtual environment for every Python it shall run on: an environment's libraries lie in
`lib/pythonX.Y/site-packages`, where the Python that runs looks for its own number. So one package
works on Debian 12 (3.11) and 13 (3.13), also across an upgrade from one to the other; each file
belongs to it, and nothing is installed, built or fetched on the host. Libraries come from the
lock file, by their hashes.

Run by a Python that has the lock file's setuptools and pip (the checkout's `.venv`).
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import sbom

ROOT = Path(__file__).resolve().parent.parent
#: Where the units and the commands in the repository say that the program is.
USUAL_PREFIX = "/opt/appliance"
#: Newest C library that a wheel may ask for: Debian 12's.
GLIBC_MINOR = 36
#: Needed to build and to install, not to run.
BUILD_ONLY = ("_distutils_hack", "distutils-precedence.pth", "pip", "pkg_resources", "setuptools")
#: Commands in the program's own folder: name -> (module, function).
COMMANDS = {
    "appliance": ("appliance.cli", "main"),
    "appliance-host": ("appliance.cli.host", "main"),
    "sqlite-utils": ("sqlite_utils.cli", "cli"),
}
#: What ProtectHome= hides from the services.
HOMES = ("/home/", "/root/", "/run/user/")
#: Where documents, and the list of what the program is made of, lie below the root folder.
DOCUMENTS = "usr/share/doc/queue-appliance"
UNIT_SUFFIXES = (".service", ".target", ".timer")


def main() -> int:
    """Lay everything out below --destdir."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--destdir", default="/", type=Path, help="folder that stands for /")
    parser.add_argument("--prefix", default=USUAL_PREFIX, type=Path, help="the program's folder")
    options = parser.parse_args()
    own = "{}.{}".format(*sys.version_info[:2])
    destination = options.destdir.absolute()
    if os.path.realpath(sys.executable).startswith(HOMES):
        print(
            f"The services will not see {os.path.realpath(sys.executable)}: homes are closed to "
            "them. Remove .venv and name another: make install PYTHON=/usr/bin/python3",
            file=sys.stderr,
        )
    lay_out(destination, options.prefix, os.path.realpath(sys.executable), {own: []})
    library = inside(destination, options.prefix) / "lib"
    compileall.compile_dir(library, quiet=2, stripdir=str(destination))
    return 0


def lay_out(
    destination: Path, prefix: Path, interpreter: str, versions: dict[str, list[str]]
) -> None:
    """Put all files below `destination`, which stands for the root folder.

    `versions` has, for each Python's version, pip's options to choose what is for it.
    """
    program = inside(destination, prefix)
    make_environment(program, prefix, interpreter)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        for version, chosen in versions.items():
            install_libraries(program / f"lib/python{version}/site-packages", chosen, wheel)
    share = program / "share"
    copy(ROOT / "systemd" / "host.env", share / "host.env", prefix)
    shutil.copytree(ROOT / "supervisor", share / "supervisor", dirs_exist_ok=True)
    lay_out_host_files(destination, prefix)
    write_sbom(program / "lib", destination / DOCUMENTS / "sbom.cdx.json")


def write_sbom(library: Path, output: Path) -> None:
    """Write down what the program is made of; its Debian packages are the host's to know."""
    pins = sbom.locked((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    # For each Python's version, one component where it is the same.
    found = {
        each["bom-ref"]: each
        for folder in library.glob("python*/site-packages")
        for each in sbom.libraries(folder, pins)
    }
    version = sbom.version_of(next(library.glob("python*/site-packages")))
    sbom.write(output, [*found.values(), *sbom.sqlite(sys.executable)], version)


def lay_out_host_files(destination: Path, prefix: Path) -> None:
    """Put what the host's own programs read where they look for it."""
    units = ROOT / "systemd"
    for unit in (*units.iterdir(), *units.glob("*.d/*.conf")):
        if unit.suffix in UNIT_SUFFIXES or unit.parent != units:
            target = destination / "usr/lib/systemd/system" / unit.relative_to(units)
            copy(unit, target, prefix)
    copy(
        units / "appliance.sysusers.conf", destination / "usr/lib/sysusers.d/appliance.conf", prefix
    )
    copy(
        units / "appliance.tmpfiles.conf", destination / "usr/lib/tmpfiles.d/appliance.conf", prefix
    )
    settings = destination / "etc/appliance/appliance.env"
    if not settings.exists():  # it may hold what someone has set
        copy(units / "appliance.env", settings, prefix)
    command = destination / "usr/bin/appliance"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.unlink(missing_ok=True)
    command.symlink_to(prefix / "bin/appliance-host")
    documents = destination / DOCUMENTS
    pages = (page for kind in ("md", "svg", "pml") for page in (ROOT / "docs").rglob(f"*.{kind}"))
    for source in (*ROOT.glob("*.md"), *pages, units / "README.md"):
        if source.name != "CONTRIBUTING.md":
            copy(source, documents / source.relative_to(ROOT), prefix)
    copy(ROOT / "LICENSE", documents / "copyright", prefix)


def inside(destination: Path, path: Path) -> Path:
    """Return where an absolute path of the host lies while it is laid out."""
    return destination / str(path).lstrip("/")


def copy(source: Path, target: Path, prefix: Path) -> None:
    """Copy a text file, readable by all, with the program's folder as it is here."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = source.read_text(encoding="utf-8").replace(USUAL_PREFIX, str(prefix))
    target.write_text(text, encoding="utf-8")
    target.chmod(0o644)


def make_environment(program: Path, prefix: Path, interpreter: str) -> None:
    """Make the virtual environment's own few files, and the commands."""
    binaries = program / "bin"
    binaries.mkdir(mode=0o755, parents=True, exist_ok=True)
    (program / "pyvenv.cfg").write_text(
        f"home = {Path(interpreter).parent}\ninclude-system-site-packages = false\n"
    )
    python = binaries / "python"
    python.unlink(missing_ok=True)
    python.symlink_to(interpreter)
    for name, (module, function) in COMMANDS.items():
        script = binaries / name
        # -I: neither the caller's folder nor PYTHON* variables choose what is run.
        script.write_text(
            f"#!{prefix}/bin/python -I\nimport sys\n\nfrom {module} import {function}\n\n"
            f"sys.exit({function}())\n"
        )
        script.chmod(0o755)


def build_wheel(folder: Path) -> Path:
    """Build our own package, from a copy: setuptools leaves its traces beside the sources."""
    source = folder / "source"
    shutil.copytree(
        ROOT / "appliance", source / "appliance", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_libraries(target: Path, chosen: list[str], wheel: Path) -> None:
    """Install what the lock file names, and ours, for one version of Python."""
    shutil.rmtree(target, ignore_errors=True)
    common = ("install", "--no-deps", "--no-compile", "--target", str(target))
    locked = ("--require-hashes", "--requirement", str(ROOT / "requirements.lock"))
    for wanted in ((*chosen, *locked), (str(wheel),)):
        pip(*common, *wanted)
        shutil.rmtree(target / "bin", ignore_errors=True)  # they name the Python that runs pip
    for path in list(target.iterdir()):
        if path.name.partition("-")[0] in BUILD_ONLY or path.name in BUILD_ONLY:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    strip(target)


def wheels_for(version: str) -> list[str]:
    """Return pip's options to take only wheels that run on Debian's Python of this version.

    Which need not be the one that runs pip, and neither need the host be like this one.
    """
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1)]
    tags += [f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1")]
    abis = (f"cp{version.replace('.', '')}", "abi3", "none")
    return [
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={version}",
        *(f"--abi={abi}" for abi in abis),
        *(f"--platform={tag}" for tag in tags),
    ]


def strip(folder: Path) -> None:
    """Take the debugging symbols from the compiled libraries: three quarters of their size."""
    program = shutil.which("strip")
    libraries = [str(path) for path in folder.rglob("*.so*")]
    if program and libraries:
        subprocess.run([program, "--strip-unneeded", *libraries], check=True)


def pip(*arguments: str) -> None:
    """Run pip, or end with what it says."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"failed: pip {' '.join(arguments[:3])} ...")


if __name__ == "__main__":
    sys.exit(main())
