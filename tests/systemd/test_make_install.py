"""`make install` lays the same out as the package, anywhere, for any one Python."""

import json
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    command = ["make", "--silent", "install", f"DESTDIR={folder}", "PREFIX=/srv/inbox"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_program_runs_from_where_it_is_laid_out(laid_out):
    python = laid_out / "srv/inbox/bin/python"
    program = "import sys, appliance.cli.host; print(sys.prefix)"
    done = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(laid_out / "srv/inbox")


def test_nothing_names_the_usual_folder(laid_out):
    wrong = [
        path
        for folder in ("usr", "etc", "srv/inbox/bin", "srv/inbox/share")
        for path in (laid_out / folder).rglob("*")
        if path.is_file() and not path.is_symlink() and b"/opt/appliance" in path.read_bytes()
    ]
    assert wrong == []
    assert (
        "/srv/inbox/bin/appliance api"
        in (laid_out / "usr/lib/systemd/system/appliance-api.service").read_text()
    )
    assert (laid_out / "usr/bin/appliance").readlink() == Path("/srv/inbox/bin/appliance-host")


def test_the_libraries_that_are_laid_out_are_those_of_the_sbom(laid_out):
    document = json.loads((laid_out / "usr/share/doc/queue-appliance/sbom.cdx.json").read_text())
    (folder,) = (laid_out / "srv/inbox/lib").glob("python*/site-packages")
    there = {
        (each.name.lower().replace("_", "-"), each.version)
        for each in distributions(path=[str(folder)])
    }
    listed = {
        (each["name"], each["version"])
        for each in document["components"]
        if each["purl"].startswith("pkg:pypi/")
    }
    ours = document["metadata"]["component"]
    assert there == {*listed, (ours["name"], ours["version"])}


def test_settings_that_are_there_are_kept(laid_out):
    settings = laid_out / "etc/appliance/appliance.env"
    settings.write_text("APPLIANCE_WORKERS=3\n")
    command = ["make", "--silent", "install", f"DESTDIR={laid_out}", "PREFIX=/srv/inbox"]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert settings.read_text() == "APPLIANCE_WORKERS=3\n"
