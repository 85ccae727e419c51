"""Replays of what the version before them stored: its code, out of git, really ran."""

import subprocess
import sys

import pytest
from previous import Version, take_out
from replaying import REPLAY_DEED, asked

from appliance.replay_copier import copies
from appliance.store.endpoint_rows import WAITING
from appliance.store.replay_rows import DONE, ReplaySelection
from appliance.store.rows import Span

#: The last version without replays.
BEFORE = Version("aee1e3141081d7d5e3481f50342d4dacae41db60", schema=16, has_meta=True)
FILL = """
import sys
from appliance import config
from appliance.model import timestamps
from appliance.model.wire import single
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed
from appliance.store.endpoint_rows import DeliveryOutcome, DueRow, EndpointRow, EndpointStanding

store = open_store(config.load({"APPLIANCE_DATA": sys.argv[1]}))
store.migrate()
writer = store.open_writer()
for n in range(1, 6):
    body = b'{"n":%d}' % n
    writer.store([single("orders", f"01890a5d-ac96-774b-bcce-{n:012x}", timestamps.now(), body)])
writer.close()
now = timestamps.now()
row = EndpointRow(name="shop", url="https://shop.example/", topics=("*",), created_at=now,
                  changed_at=now)
made = store.endpoints.create(row, ["whsec_x"], {}, 0, Deed(Actor("a", "b"), "c", "d"))
due = DueRow(0, made.id, 2, "id-2", "orders", "waiting", 1, 100.0, 110.0, 500, "answered 500")
store.deliveries.store(DeliveryOutcome(standings={made.id: EndpointStanding(5)}, due=[due]))
store.reader.close()
"""


@pytest.fixture
def engine():
    return "sqlite"  # there was no other


def test_messages_and_deliveries_from_before_are_kept_and_can_be_replayed(
    tmp_path, config, new_store
):
    code = take_out(BEFORE, tmp_path / "before")
    command = [sys.executable, "-c", FILL, str(config.data)]
    subprocess.run(command, env={"PYTHONPATH": str(code)}, check=True, cwd="/")
    assert new_store.migrate()[0] == "m017_replays"
    (due,) = new_store.endpoints.due("shop", WAITING, Span(), 10)
    assert (due.seq, due.attempts, due.replay) == (2, 1, None)
    endpoint = new_store.endpoints.find("shop")
    assert endpoint.cursor == 5
    query = ReplaySelection(sql="SELECT seq FROM deliveries_due WHERE state = 'waiting'")
    out = asked(new_store, query, target="shop", endpoint=endpoint.id)
    assert [work.id for work in new_store.deliveries.replays()] == [out.id]
    into = asked(new_store, ReplaySelection(topics=("orders",), where=("n>=3",)))
    work = new_store.replays.next_copy()
    writer = new_store.open_writer()
    writer.store([copies(work, new_store.replays.part(work, 0, 100, 2**20))])
    writer.close()
    found = new_store.replays.find(into.id)
    assert (found.state, found.sent) == (DONE, 3)
    assert new_store.endpoints.remove("shop", REPLAY_DEED)
    assert new_store.verify(quick=True, alone=True, progress=lambda *_: None).problems == []
