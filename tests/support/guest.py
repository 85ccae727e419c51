"""A Debian machine under QEMU, emulated: what a container can't show (boot, credentials, power).

`Disk` makes its disk from a tar of its files; `Guest` boots it, runs commands in it over a serial
port, forwards one of its TCP ports, reboots it, pauses it, and cuts its power: QEMU is killed, and
what the guest had in its page cache is gone (`cache=none`).

Emulation is slow (some 40 s to boot on an idle machine), and a guest's kernel may panic in it while
it boots: that is no fault of what is tested, so the boot is tried again, three times at most.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

#: Seconds for a boot, and for a command, on a machine that is busy with other things too.
BOOT_SECONDS = 300.0
COMMAND_SECONDS = 300.0
#: Boots that may end in a panic before it counts.
BOOTS = 3
MEMORY_MIB = 1536
#: What is emulated is translated for each address anew: programs lie at the same ones each time.
_FASTER = ("nokaslr", "norandmaps", "mitigations=off")
_AGENT = """\
[Unit]
Description=Runs commands for the test that drives this machine
[Service]
ExecStart=/usr/bin/python3 /opt/agent.py
Restart=always
[Install]
WantedBy=multi-user.target
"""
#: QEMU's user network always is this one.
_NETWORK = "[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"


class PanickedError(Exception):
    """The guest's kernel gave up."""


class Disk:
    """A machine's disk: one ext4 file system with the files of `tar`, and its kernel beside it."""

    def __init__(
        self, tar: Path, folder: Path, agent: Path, files: Mapping[str, Path | str]
    ) -> None:
        """Make it in `folder`. `files`: path in the guest -> a file to copy, or its text."""
        self.path, self.kernel, self.initrd = (
            folder / n for n in ("disk.img", "vmlinuz", "initrd")
        )
        root = folder / "root"
        root.mkdir()
        try:
            _run(
                "tar", "--extract", "--numeric-owner", "--file", str(tar), "--directory", str(root)
            )
            shutil.copy(next(root.glob("boot/vmlinuz-*")), self.kernel)
            shutil.copy(next(root.glob("boot/initrd.img-*")), self.initrd)
            (root / "etc/hostname").write_text("guest\n")
            (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
            (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n")
            self._add(root, {
                "/opt/agent.py": agent,
                "/etc/systemd/system/agent.service": _AGENT,
                "/etc/systemd/network/all.network": _NETWORK,
                **files,
            })  # fmt: skip
            _run("systemctl", f"--root={root}", "enable", "agent.service", "systemd-networkd")
            # Debian's own; emulated, one Erlang is slow enough to start.
            _run("systemctl", f"--root={root}", "disable", "rabbitmq-server.service")
            _run("truncate", "--size=3G", str(self.path))
            _run("mkfs.ext4", "-q", "-d", str(root), str(self.path))
        finally:
            shutil.rmtree(root)

    @staticmethod
    def _add(root: Path, files: Mapping[str, Path | str]) -> None:
        for name, content in files.items():
            target = root / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copy(content, target)
            else:
                target.write_text(content)


class Guest:
    """One machine on `disk`; its TCP `port` is at 127.0.0.1:`forwarded` here."""

    def __init__(self, disk: Disk, port: int, forwarded: int) -> None:
        self._disk = disk
        self.forwarded = forwarded
        self._forward = f"hostfwd=tcp:127.0.0.1:{forwarded}-:{port}"
        # A socket's path is short; a test's own folder needn't be.
        self._folder = Path(tempfile.mkdtemp(prefix="guest-"))
        self._console = self._folder / "console"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._pending = b""
        self._count = 0
        self._clock = timedelta()

    def boot(self) -> float:
        """Switch it on and wait until it runs commands; seconds it took."""
        begin = time.monotonic()
        for boot in range(1, BOOTS + 1):
            self._start()
            try:
                self._greeted()
            except PanickedError:
                self.cut_power()
                if boot == BOOTS:
                    raise
            else:
                return time.monotonic() - begin
        raise AssertionError("unreachable")

    def _start(self) -> None:
        path = self._folder / "agent.sock"
        path.unlink(missing_ok=True)
        clock = datetime.now(UTC) + self._clock
        self._qemu = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL",  # a run that is broken off leaves no guest behind
                "qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "1",
                "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none",
                "-rtc", f"base={clock:%Y-%m-%dT%H:%M:%S}",
                "-kernel", str(self._disk.kernel), "-initrd", str(self._disk.initrd),
                "-append", " ".join(("root=/dev/vda rw console=ttyS0 panic=-1", *_FASTER)),
                "-drive", f"file={self._disk.path},format=raw,if=virtio,cache=none",
                "-netdev", f"user,id=net,restrict=on,{self._forward}",
                "-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci",
                "-device", "virtio-serial-pci",
                "-chardev", f"socket,id=agent,path={path},server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=agent",
                "-serial", f"file:{self._console}",
                "-qmp", f"unix:{self._folder / 'monitor.sock'},server=on,wait=off",
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._link = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 30
        while True:
            try:
                self._link.connect(str(path))
            except OSError:
                assert time.monotonic() < end, "QEMU does not start"
                time.sleep(0.05)
            else:
                self._pending = b""
                return

    def _greeted(self) -> None:
        """Wait for the agent's first line."""
        end = time.monotonic() + BOOT_SECONDS
        while "hello" not in self._line(end):
            pass

    def console(self) -> str:
        """What the kernel and systemd have said."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def _line(self, end: float) -> dict[str, Any]:
        assert self._link is not None
        while b"\n" not in self._pending:
            assert time.monotonic() < end, f"the guest does not answer:\n{self.console()[-3000:]}"
            if "Kernel panic" in self.console():
                raise PanickedError(self.console()[-3000:])
            self._link.settimeout(1.0)
            try:
                received = self._link.recv(65536)
            except TimeoutError:
                continue
            assert received, "QEMU ended"
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def run(self, *command: str, check: bool = True, timeout: float = COMMAND_SECONDS) -> str:
        """What a command prints that root types in the guest. A panic is raised."""
        assert self._link is not None
        self._count += 1
        request = {"id": self._count, "command": command, "timeout": timeout}
        self._link.settimeout(30)
        self._link.sendall(json.dumps(request).encode() + b"\n")
        end = time.monotonic() + timeout + 30
        while (answer := self._line(end)).get("id") != self._count:
            pass
        assert not check or answer["status"] == 0, f"{' '.join(command)}:\n{answer['output']}"
        return answer["output"]

    def move_clock(self, days: int) -> None:
        """Set its clock, and the one on a battery that it reads when it boots."""
        self.run("sh", "-c", f"date --set '{days:+d} day' && hwclock --systohc --utc")
        self._clock += timedelta(days=days)

    def reboot(self) -> float:
        """Reboot as an administrator does; seconds until it runs commands again."""
        begin = time.monotonic()
        self.run("systemctl", "--no-block", "reboot")
        try:
            self._greeted()
        except PanickedError:  # by then all is written: what follows a reboot is a boot
            self.cut_power()
            self.boot()
        return time.monotonic() - begin

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the hypervisor stop it: its own time stands still, and its clock is late after."""
        self._tell_monitor("stop")
        try:
            yield
        finally:
            self._tell_monitor("cont")

    @contextmanager
    def swapped_out(self) -> Iterator[None]:
        """Give it no processor, as a host does that has swapped it out: its time goes on."""
        assert self._qemu is not None
        self._qemu.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._qemu.send_signal(signal.SIGCONT)

    def _tell_monitor(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(30)
            link.connect(str(self._folder / "monitor.sock"))
            with link.makefile("rw") as lines:
                assert "QMP" in json.loads(lines.readline())
                for each in ("qmp_capabilities", command):
                    lines.write(json.dumps({"execute": each}) + "\n")
                    lines.flush()
                    while "return" not in (answer := json.loads(lines.readline())):
                        assert "event" in answer, answer

    def cut_power(self) -> None:
        """End it at once, as a power cut does."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None
        if self._link is not None:
            self._link.close()
            self._link = None

    def remove(self) -> None:
        """Cut its power and forget it, except for its disk."""
        self.cut_power()
        shutil.rmtree(self._folder)


def _run(*command: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stderr}"
