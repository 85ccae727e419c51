"""Writes the SBOM: what the image, or the package for a host, is made of. CycloneDX 1.5, JSON.

The libraries are those that are installed, and each must be as the lock file names it; the Debian
packages are those of dpkg's database. Nothing in it changes from build to build unless a component
does. Standard library only: it runs inside the image's build.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import uuid
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

#: Ours; it is what the others are components of.
OURS = "queue-appliance"
#: The namespace of serial numbers, which follow from the components.
NAMESPACE = uuid.UUID("5b7e6f0c-6c1c-4c1e-9d55-0f6c2c1f9a11")
#: pysqlite3's wheel carries SQLite, which no database of packages names.
SQLITE_VERSION = "import pysqlite3; print(pysqlite3.sqlite_version)"


class MismatchError(Exception):
    """What is installed is not what the lock file names."""


def main() -> int:
    """Write it; 1 if a library is not as the lock file names it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lock", required=True, type=Path, help="requirements.lock")
    parser.add_argument("--libraries", required=True, type=Path, help="a site-packages folder")
    parser.add_argument("--python", help="Python that the libraries are for, to ask for SQLite")
    parser.add_argument("--dpkg", type=Path, help="dpkg's status file")
    parser.add_argument("--release", default=Path("/etc/os-release"), type=Path)
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()
    try:
        found = libraries(options.libraries, locked(options.lock.read_text(encoding="utf-8")))
    except MismatchError as error:
        print(error, file=sys.stderr)
        return 1
    if options.python:
        found += sqlite(options.python)
    if options.dpkg:
        system = distribution(options.release.read_text(encoding="utf-8"))
        found += debian_packages(options.dpkg.read_text(encoding="utf-8"), system)
    write(options.output, found, version_of(options.libraries))
    return 0


def write(output: Path, components: list[dict[str, Any]], version: str) -> None:
    """Write the SBOM of our `version`, readable by all."""
    output.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    output.write_text(json.dumps(document(components, version), indent=1) + "\n", encoding="utf-8")
    output.chmod(0o644)


def document(components: list[dict[str, Any]], version: str) -> dict[str, Any]:
    """Return the SBOM; its serial number follows from the rest."""
    each = sorted(components, key=lambda component: component["bom-ref"])
    ours = f"pkg:generic/{OURS}@{quote(version)}"
    names = "\n".join([ours, *(component["bom-ref"] for component in each)])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, names)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": OURS,
                "version": version,
                "licenses": [{"license": {"id": "MIT"}}],
                "purl": ours,
            }
        },
        "components": each,
        "dependencies": [{"ref": ours, "dependsOn": [component["bom-ref"] for component in each]}],
    }


def component(kind: str, name: str, version: str, purl: str, **more: Any) -> dict[str, Any]:
    """Return one component; its reference is its package URL."""
    return {
        "type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, **more
    }  # fmt: skip


def normalized(name: str) -> str:
    """Return a library's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, str]:
    """Return name and version of each library in the lock file."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {normalized(name): version for name, version in pins}


def libraries(folder: Path, pins: dict[str, str]) -> list[dict[str, Any]]:
    """Return the installed libraries. Raises MismatchError unless all are as the lock file says."""
    found = []
    for each in distributions(path=[str(folder)]):
        name, version = normalized(each.metadata["Name"]), each.version
        if name == OURS:
            continue
        if pins.get(name) != version:
            raise MismatchError(
                f"{name} {version} is installed, and the lock file has {pins.get(name, 'none')}"
            )
        purl = f"pkg:pypi/{name}@{quote(version)}"
        found.append(component("library", name, version, purl))
    return found


def version_of(folder: Path) -> str:
    """Return our own version, of the installed package."""
    for each in distributions(path=[str(folder)]):
        if normalized(each.metadata["Name"]) == OURS:
            return each.version
    raise SystemExit(f"{OURS} is not installed in {folder}")


def sqlite(python: str) -> list[dict[str, Any]]:
    """Return the SQLite that pysqlite3 carries; none where it is not installed."""
    done = subprocess.run(
        [python, "-B", "-c", SQLITE_VERSION], capture_output=True, text=True, check=False
    )
    version = done.stdout.strip()
    return [component("library", "sqlite", version, f"pkg:generic/sqlite@{version}")] * bool(
        version
    )


def distribution(text: str) -> str:
    """Return the distribution's name and release, as package URLs have it: debian-13."""
    values = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', text, re.MULTILINE))
    return f"{values.get('ID', 'debian')}-{values.get('VERSION_ID', 'unknown')}"


def debian_packages(status: str, system: str) -> list[dict[str, Any]]:
    """Return the packages that dpkg's status file calls installed."""
    vendor = system.partition("-")[0]
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").split()[-1:] != ["installed"]:
            continue
        name, version = fields["Package"], fields["Version"]
        purl = (
            f"pkg:deb/{vendor}/{quote(name)}@{quote(version)}"
            f"?arch={fields['Architecture']}&distro={system}"
        )
        source = fields.get("Source", name).partition(" ")[0]
        properties = [{"name": "debian:source", "value": source}]
        found.append(component("library", name, version, purl, properties=properties))
    return found


if __name__ == "__main__":
    sys.exit(main())
