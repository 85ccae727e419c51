"""Sees to it that the host has what the Makefile's commands need, and installs what is missing.

Run by the host's own python3 before there is a virtual environment: standard library only. As
root, Debian packages that are missing are installed; as anyone else, the one command that
installs them is printed. Quiet when nothing is missing. `NEEDS` is the one list of the packages.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: As in setup.cfg, which can't be asked yet.
MINIMUM_PYTHON = (3, 11)
#: What a group of commands needs, of what doesn't come from PyPI: a command, or the path of a file
#: (`*` stands for a release), that is there when Debian's package is -> the package.
NEEDS = {
    "broker": {"/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server": "rabbitmq-server"},
    "test": {
        "amqp-publish": "amqp-tools",
        "bindfs": "bindfs",
        "curl": "curl",
        "git": "git",
        "mosquitto": "mosquitto",
        "mosquitto_pub": "mosquitto-clients",
        "nginx": "nginx-light",
        "openssl": "openssl",
        "/usr/lib/postgresql/*/bin/initdb": "postgresql",
        "prometheus": "prometheus",
        "systemd-analyze": "systemd",
    },
    "senders": {
        "/usr/lib/syslog-ng/*/libhttp.so": "syslog-ng-mod-http",
        "chromium-headless-shell": "chromium-headless-shell",
        "curl": "curl",
        "syslog-ng": "syslog-ng-core",
    },
    "browser": {
        "chromium": "chromium",
        "curl": "curl",
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
    },
    "model": {"gcc": "gcc", "spin": "spin", "/usr/include/stdio.h": "libc6-dev"},
    "lint": {"shellcheck": "shellcheck", "systemd-analyze": "systemd", "git": "git"},
    "package": {"dpkg-deb": "dpkg", "strip": "binutils", "git": "git"},
    "containers": {
        "docker": "docker.io",
        "docker-compose": "docker-compose",
        "dockerd": "docker.io",
        "iptables": "iptables",
        "mmdebstrap": "mmdebstrap",
        "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
        "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    },
    "faults": {
        "ip": "iproute2",
        "iptables": "iptables",
        "setpriv": "util-linux",
        "strace": "strace",
    },
    "scale": {
        "iptables": "iptables",
        "nsenter": "util-linux",
        "openssl": "openssl",
        "ss": "iproute2",
    },
    "disks": {"losetup": "mount", "mkfs.btrfs": "btrfs-progs", "mkfs.ext4": "e2fsprogs"},
    "vm": {
        "mkfs.ext4": "e2fsprogs",
        "mmdebstrap": "mmdebstrap",
        "qemu-system-x86_64": "qemu-system-x86",
        "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    },
    "bench": {"/usr/lib/postgresql/*/bin/initdb": "postgresql", "sqlite3": "sqlite3"},
}
#: Debian packages that start a service -> its name. The tests start programs of their own.
SERVICES = {
    "mosquitto": "mosquitto",
    "postgresql": "postgresql",
    "prometheus": "prometheus",
    "rabbitmq-server": "rabbitmq-server",
    "syslog-ng-core": "syslog-ng",
}
#: Where programs for root are, which is not in everyone's PATH.
ROOT_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
UNITS = Path(__file__).resolve().parent.parent / "systemd"
#: What the units start; not there on the machine that checks them.
INSTALLED_COMMANDS = r"/opt/appliance/bin/(?:appliance|python)\b"
UNIT_SUFFIXES = (".service", ".target", ".timer", ".socket", ".slice")
#: systemd-tmpfiles' status for a file that is right but could not be carried out.
TMPFILES_READ_BUT_NOT_DONE = 73


def main() -> int:
    """Check, install, and say what is missing; 0 if all is there now."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", nargs="*", help=f"what must be there: {', '.join(NEEDS)}")
    parser.add_argument("--units", action="store_true", help="let systemd read what is in systemd/")
    options = parser.parse_args()
    if unknown := set(options.group) - set(NEEDS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    if sys.version_info < MINIMUM_PYTHON:
        wanted, found = (".".join(map(str, v[:2])) for v in (MINIMUM_PYTHON, sys.version_info))
        return fail(
            f"Python {wanted} or later is needed; {sys.executable} is {found}. Debian 12 and 13 "
            "have it; another one is named with: make run PYTHON=/path/to/python3"
        )
    missing = {*missing_for_venv(), *missing_of(*options.group)}
    if missing and os.geteuid() != 0:  # so that one command is enough for what comes next too
        missing |= missing_of("broker")
    if missing and not install(sorted(missing)):
        return 1
    return check_units() if options.units else 0


def missing_for_venv() -> list[str]:
    """Return Debian's package with what `python3 -m venv` needs, if it is missing."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return []
    if Path(sys.executable).resolve() == Path("/usr/bin/python3").resolve():
        return ["python3-venv"]
    return [f"python3.{sys.version_info.minor}-venv"]


def missing_of(*groups: str) -> set[str]:
    """Return the packages of these groups whose command or file is not there."""
    probes = {probe: package for group in groups for probe, package in NEEDS[group].items()}
    return {package for probe, package in probes.items() if not is_there(probe)}


def is_there(probe: str) -> bool:
    """Whether the host has this command, or a file at this path."""
    if probe.startswith("/"):
        return any(Path("/").glob(probe.lstrip("/")))
    path = os.pathsep.join((os.environ.get("PATH", ""), *ROOT_FOLDERS))
    return bool(shutil.which(probe, path=path))


def install(packages: list[str]) -> bool:
    """Install Debian packages, as root; True if they are there now."""
    # A fresh machine may be installing updates at this very moment.
    wait = "DPkg::Lock::Timeout=300"
    # Nothing goes for it: a machine has one system log, and ours is for the tests only.
    modes = ["--yes", "--no-remove", "--no-install-recommends"]
    command = ["apt-get", "install", "-o", wait, *modes, *packages]
    if not shutil.which("apt-get"):
        fail(f"these are missing, by their Debian names: {' '.join(packages)}")
        return False
    if os.geteuid() != 0:
        become = "sudo sh" if shutil.which("sudo") else "su"
        shown = f"{become} -c 'apt-get update && {' '.join(command)}'"
        fail(f"missing: {', '.join(packages)}. Install with this, then try again:\n  {shown}")
        return False
    print(f"Installing {', '.join(packages)} from Debian's packages ...", flush=True)
    for step in (["apt-get", "update"], command):
        done = call(step)
        if done.returncode and step is command:  # a stale list may still do
            fail(f"{' '.join(step)} failed:\n{done.stdout}{done.stderr}")
            return False
    for package in packages:
        if package in SERVICES:
            stop_service(package)
    return True


def stop_service(package: str) -> None:
    """Stop the service that a package has just started: we start programs of our own.

    Called only when we have installed the package; a service that was here before is not touched.
    """
    service = SERVICES[package]
    if Path("/run/systemd/system").is_dir():
        command = ["systemctl", "disable", "--now", f"{service}.service"]
    elif Path(f"/etc/init.d/{service}").exists():
        command = [f"/etc/init.d/{service}", "stop"]
    else:
        return
    call(command)
    print(f"Stopped the service that came with {package}. ({' '.join(command)})")


def check_units() -> int:
    """Let systemd read what is in systemd/; 0 if it has nothing to say about it."""
    with tempfile.TemporaryDirectory() as folder:
        problems = [*verify_units(Path(folder)), *verify_user_and_folders(Path(folder))]
    return fail("\n".join(problems)) if problems else 0


def verify_units(folder: Path) -> list[str]:
    """Return what systemd-analyze has to say about our units.

    It wants the commands to be there, so it is given copies that start /bin/true. It reads units
    of this host as well, because ours refer to them; what it says about those is not our matter.
    """
    staged = []
    for unit in sorted(UNITS.iterdir()):
        if unit.suffix in UNIT_SUFFIXES:
            # As an instance: a template alone is not read in full.
            copy = folder / unit.name.replace("@.", "@0.")
            text = re.sub(INSTALLED_COMMANDS, "/bin/true", unit.read_text(encoding="utf-8"))
            copy.write_text(text, encoding="utf-8")
            staged.append(str(copy))
    for common in UNITS.glob("*.d"):  # systemd reads them beside the units
        shutil.copytree(common, folder / common.name)
    done = call(["systemd-analyze", "verify", "--man=no", *staged])
    ours = [
        line.replace(f"{folder}/", "systemd/")
        for line in done.stderr.splitlines()
        if "appliance" in line
    ]
    if done.returncode and not ours:
        return [done.stderr or f"systemd-analyze ended with {done.returncode}"]
    return ours


def verify_user_and_folders(folder: Path) -> list[str]:
    """Return what systemd has to say about the files that declare the user and the folders."""
    etc = folder / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("appliance:x:999:999::/:/usr/sbin/nologin\n")
    (etc / "group").write_text("appliance:x:999:\n")
    users = call(
        [
            "systemd-sysusers",
            "--dry-run",
            f"--root={folder}",
            str(UNITS / "appliance.sysusers.conf"),
        ]
    )
    folders = call(
        [
            "systemd-tmpfiles",
            "--create",
            f"--root={folder}",
            str(UNITS / "appliance.tmpfiles.conf"),
        ]
    )
    problems = []
    if users.returncode:
        problems.append(f"systemd/appliance.sysusers.conf: {users.stderr.strip()}")
    # Not as root it may not give the folders away; that they were read is what is asked.
    if folders.returncode not in (0, TMPFILES_READ_BUT_NOT_DONE):
        problems.append(f"systemd/appliance.tmpfiles.conf: {folders.stderr.strip()}")
    return problems


def call(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command that asks nothing, and keep what it says."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command,
        env=environment,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def fail(message: str) -> int:
    """Say what is wrong; return the status to end with."""
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
