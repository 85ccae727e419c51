"""The package on a whole machine: installed, rebooted, its power cut. One story in order.

What a container can't show: a real boot and its order, credentials, timers after a boot, and a
power cut that takes the page cache with it.
"""

import re
import threading
import time
from typing import Self

import pytest
from inbox import CREDENTIAL, PATIENCE

pytestmark = pytest.mark.timeout(1800)

#: Seconds that the guest is stopped with its time, and without; a watchdog's patience is 30.
PAUSE_SECONDS, SWAPPED_SECONDS = 15, 35
SERVICES = ("broker", "api", "worker@0", "worker@1", "janitor", "deliver", "handle@0")


def show(guest, unit: str, name: str) -> str:
    return guest.run("systemctl", "show", "--property", name, "--value", unit).strip()


def microseconds(guest, service: str, name: str) -> int:
    return int(show(guest, f"appliance-{service}.service", f"{name}Monotonic"))


def test_the_machine_boots(guest):
    print(f"booted in {guest.boot():.0f} s")
    assert show(guest, "rabbitmq-server.service", "ActiveState") == "inactive"


def test_apt_installs_it_offline_on_settings_that_are_there(guest, inbox):
    begin = time.monotonic()
    said = guest.run(
        "apt-get", "install", "--yes", "-o", "Dpkg::Options::=--force-confold",
        "/root/appliance.deb", timeout=1200,
    )  # fmt: skip
    print(f"installed and started in {time.monotonic() - begin:.0f} s")
    # The package waits for some time only, which a busy machine doesn't give an emulated one.
    assert re.search("The appliance (runs|has not started yet)", said), said
    inbox.wait_ready()


def test_the_token_can_be_a_credential_that_systemd_hands_over(guest, inbox):
    # The client has no other token; the file is root's, and the program isn't root.
    assert inbox.publish("machine", "before the reboot")
    guest.run("chmod", "0600", "/etc/appliance/api-token")
    pid = show(guest, "appliance-api.service", "MainPID")
    environ = guest.run("cat", f"/proc/{pid}/environ")
    assert "APPLIANCE_TOKEN_FILE=/run/credentials/appliance-api.service/token" in environ
    assert CREDENTIAL not in environ
    inbox.wait_stored("machine", ["before the reboot"])


def test_the_memory_and_tasks_of_a_service_are_limited(guest):
    for name in SERVICES:
        unit = f"appliance-{name}.service"
        assert int(show(guest, unit, "MemoryCurrent")) < int(show(guest, unit, "MemoryMax"))
        assert int(show(guest, unit, "TasksCurrent")) < int(show(guest, unit, "TasksMax"))
        print(name, *(f"{n}={show(guest, unit, n)}" for n in ("MemoryCurrent", "TasksCurrent")))


class Sender:
    """Sends one message after the other, in the background; `accepted` are those answered 202."""

    def __init__(self, inbox, topic: str) -> None:
        self._inbox, self._topic = inbox, topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.accepted: list[str] = []
        self.unclear: list[str] = []  # sent, and not answered 202

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        number = 0
        while not self._stop.is_set():
            body = f"message {number}"
            taken = self._inbox.publish(self._topic, body)
            (self.accepted if taken else self.unclear).append(body)
            number += 1
            if not taken:  # a guest that is busy starting needs its processor for that
                time.sleep(0.5)

    def wait_accepted(self, more: int) -> None:
        wanted, end = len(self.accepted) + more, time.monotonic() + PATIENCE
        while len(self.accepted) < wanted:
            assert time.monotonic() < end, f"only {len(self.accepted)} were accepted"
            time.sleep(0.1)

    def verify(self) -> None:
        """Every message answered 202 is one row; what was not answered so may be one too."""
        kept = list(self.accepted)
        found = self._inbox.wait_stored(self._topic, kept)
        assert len(found) == len(set(found)), "some came twice"
        extra = set(found) - set(kept)
        assert extra <= set(self.unclear), f"nobody has sent that: {extra}"
        assert [body for body in found if body in set(kept)] == kept, "they are out of order"
        print(f"{len(kept)} were answered 202; all are there, once and in order")


def test_clock_that_jumps_an_hour_and_a_day_loses_nothing(guest, inbox):
    with Sender(inbox, "clock") as sender:
        for jump in ("+1 hour", "-1 hour", "+1 day", "-2 days", "+1 day"):
            sender.wait_accepted(20)
            guest.run("date", "--set", jump)
        sender.wait_accepted(20)
    sender.verify()


def test_clock_that_was_set_back_across_a_reboot_loses_nothing(guest, inbox):
    """The next two tests look at this boot too: emulated, one takes minutes."""
    guest.run("systemctl", "enable", "appliance-backup.timer")
    with Sender(inbox, "clock-reboot") as sender:
        sender.wait_accepted(20)
        before = int(guest.run("date", "+%s"))
        guest.move_clock(days=-1)
        print(f"rebooted in {guest.reboot():.0f} s")
        print(f"ready {inbox.wait_ready():.0f} s after that")
        assert int(guest.run("date", "+%s")) < before, "it came up a day back"
        sender.wait_accepted(20)
        guest.move_clock(days=1)
        sender.wait_accepted(20)
    sender.verify()


def test_after_a_reboot_it_is_there_by_itself_in_the_right_order(guest, inbox):
    assert inbox.bodies("machine") == ["before the reboot"]
    ready = {name: microseconds(guest, name, "ActiveEnterTimestamp") for name in SERVICES}
    begun = {name: microseconds(guest, name, "ExecMainStartTimestamp") for name in SERVICES}
    migrated = microseconds(guest, "migrate", "ExecMainExitTimestamp")
    for name in ("api", "worker@0", "worker@1", "janitor"):
        assert ready["broker"] <= begun[name], name
        assert migrated <= begun[name], name


def test_a_timer_runs_after_a_boot(guest):
    assert show(guest, "appliance-backup.timer", "ActiveState") == "active"
    assert show(guest, "appliance-backup.timer", "NextElapseUSecRealtime")


def test_machine_that_is_paused_and_resumed_loses_nothing(guest, inbox):
    """Its clock is then set right with a jump, as a time service does."""
    with Sender(inbox, "paused") as sender:
        sender.wait_accepted(20)
        with guest.paused():
            before = len(sender.accepted)
            time.sleep(PAUSE_SECONDS)
            assert len(sender.accepted) <= before + 1
        sender.wait_accepted(20)
        guest.run("date", "--set", f"+{PAUSE_SECONDS} seconds")
        sender.wait_accepted(20)
    sender.verify()


def test_machine_that_was_swapped_out_loses_nothing(guest, inbox):
    """For longer than any heartbeat and any watchdog: all of them are late at once."""
    with Sender(inbox, "swapped") as sender:
        sender.wait_accepted(20)
        with guest.swapped_out():
            time.sleep(SWAPPED_SECONDS)
        print(f"ready {inbox.wait_ready():.0f} s after that")
        sender.wait_accepted(20)
    sender.verify()


def test_a_power_cut_loses_nothing_that_was_answered_202(guest, inbox, cut):
    with Sender(inbox, f"cut-{cut}") as sender:
        sender.wait_accepted(100 + 37 * cut)  # not each time at the same place
        guest.cut_power()
    print(f"booted in {guest.boot():.0f} s, ready {inbox.wait_ready():.0f} s after that")
    sender.verify()


def test_its_file_system_and_database_are_sound_afterwards(guest):
    said = guest.run("appliance", "verify", check=False)
    print(said)
    check = "from pysqlite3 import connect as c; print(*c(PATH).execute('pragma quick_check'))"
    program = check.replace("PATH", "'/var/lib/appliance/appliance.db'")
    assert guest.run("/opt/appliance/bin/python", "-c", program).strip() == "('ok',)"
    guest.run("test", "-s", "/var/lib/appliance/token")
