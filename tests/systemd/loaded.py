"""Puts load on a host, and holds what it has stored to the client's journal."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import docker, wait_until
from harness import Folder, environment
from host import PATIENCE, Host
from load import MIXED, Load

from appliance.drill.check import check


@contextmanager
def loaded(host: Host, name: str, folder: Path) -> Iterator[Load]:
    """Send until the block ends; then all of it must be there once, whole and in order."""
    load = Load(host, name, styles=MIXED)
    with load:
        yield load
    journal = load.sending.journal
    host.wait_ready()

    def stored() -> bool:
        status = host.http.get("/v1/status").json()
        kept = host.http.get("/v1/topics").json()["topics"]
        counts = [each["messages"] for each in kept if each["topic"] in load.topics]
        return status["broker"]["depth"] == 0 and sum(counts) >= journal.accepted

    wait_until(stored, "all is stored", PATIENCE)
    findings = check(journal, copy(host, folder).stored_rows(load.topics))
    assert not findings.faults, load.words(findings)
    assert journal.accepted, "nothing was accepted: this proves nothing"
    assert set(journal.answers) <= {0, 202, 503}, journal.answers
    host.run("appliance", "verify")
    print(
        f"{name}: {journal.accepted} answered 202, {journal.answers[503]} times 503, "
        f"{journal.answers[0]} without an answer, longest outage {journal.longest_outage:.1f} s"
    )


def copy(host: Host, folder: Path) -> Folder:
    """Return a folder with a backup of the host's database."""
    backup = "/var/lib/appliance/copy.db"
    host.run("appliance", "backup", backup)
    made = Folder()
    made.data = folder / "data"
    made.data.mkdir()
    made.env = environment(made.data)
    docker("cp", f"{host.name}:{backup}", str(made.database))
    host.run("rm", backup)
    return made
