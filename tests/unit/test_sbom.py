"""The SBOM that the builds write: `tools/sbom.py`."""

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "sbom.py"
STATUS = """\
Package: erlang-base
Status: install ok installed
Architecture: amd64
Source: erlang
Version: 1:27.3.4.1+dfsg-1+deb13u1
Description: a virtual machine
 Status: this line is no field

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2025b-4
"""
RELEASE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'
LOCK = 'click==8.5.1 \\\n    --hash=sha256:00\nruamel.yaml==0.18 ; python_version < "4" \\\n'


@pytest.fixture(scope="module")
def sbom():
    spec = importlib.util.spec_from_file_location("sbom", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installed(tmp_path):
    """A site-packages folder with ours and one library."""
    for name, version in (("Queue_Appliance", "1.2"), ("Click", "8.5.1")):
        folder = tmp_path / "lib" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (tmp_path / "lock").write_text(LOCK)
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "release").write_text(RELEASE)
    return tmp_path


def run(folder, output="sbom.json"):
    return subprocess.run(
        [
            sys.executable, "-I", SCRIPT, "--lock", "lock", "--libraries", "lib",
            "--dpkg", "status", "--release", "release", "--output", output,
        ],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_sbom_names_each_library_and_each_installed_package(installed):
    assert run(installed).returncode == 0
    document = json.loads((installed / "sbom.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    ours = document["metadata"]["component"]
    assert (ours["name"], ours["version"]) == ("queue-appliance", "1.2")
    assert [each["purl"] for each in document["components"]] == [
        "pkg:deb/debian/erlang-base@1%3A27.3.4.1%2Bdfsg-1%2Bdeb13u1?arch=amd64&distro=debian-13",
        "pkg:deb/debian/tzdata@2025b-4?arch=all&distro=debian-13",
        "pkg:pypi/click@8.5.1",
    ]
    assert document["components"][0]["properties"] == [{"name": "debian:source", "value": "erlang"}]
    references = [each["bom-ref"] for each in document["components"]]
    assert document["dependencies"] == [{"ref": ours["bom-ref"], "dependsOn": references}]
    assert (installed / "sbom.json").stat().st_mode & 0o777 == 0o644


def test_an_sbom_of_the_same_components_is_the_same_file(installed):
    for name in ("one", "two"):
        run(installed, name)
    assert (installed / "one").read_bytes() == (installed / "two").read_bytes()
    (installed / "status").write_text(STATUS.replace("2025b-4", "2025b-5"))
    run(installed, "three")
    serials = {
        json.loads((installed / name).read_text())["serialNumber"] for name in ("one", "three")
    }
    assert len(serials) == 2


@pytest.mark.parametrize(("pin", "words"), [("8.5.2", "has 8.5.2"), (None, "has none")])
def test_a_library_that_is_not_as_the_lock_file_names_it_ends_the_build(installed, pin, words):
    (installed / "lock").write_text(f"click=={pin}\n" if pin else "flask==3\n")
    done = run(installed)
    assert done.returncode == 1
    assert done.stderr == f"click 8.5.1 is installed, and the lock file {words}\n"
    assert not (installed / "sbom.json").exists()


def test_the_lock_file_is_read_whole(sbom):
    text = (ROOT / "requirements.lock").read_text()
    pins = sbom.locked(text)
    assert len(pins) == text.count("==") - text.count("== ") - text.count("=='")
    assert sbom.locked(LOCK) == {"click": "8.5.1", "ruamel-yaml": "0.18"}


def test_a_base_by_its_digest_is_built_on_and_named():
    base = "debian:trixie-slim@sha256:" + "0" * 64
    done = subprocess.run(
        ["make", "--dry-run", "image", f"BASE={base}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"--build-arg BASE={base} " in done.stdout
    assert f"--build-arg BASE_DIGEST={base.partition('@')[2]} " in done.stdout


def test_the_sqlite_that_a_wheel_carries_is_named(sbom):
    (found,) = sbom.sqlite(sys.executable)
    carried = next(each.version for each in distributions() if each.name == "pysqlite3")
    assert carried
    assert found["purl"] == f"pkg:generic/sqlite@{found['version']}"
    assert tuple(map(int, found["version"].split("."))) >= (3, 51, 3)
    assert sbom.sqlite("/bin/false") == []
