"""A queue's file that a failing disk left empty: put back from the copy that was kept."""

import pytest

from appliance.broker.node import queue_files
from appliance.broker.node.layout import Layout
from appliance.broker.node.queue_files import queue_logs

CONFIG = b"#{cluster_name => '%2F_appliance.store',\n  uid => <<\"2F_APP\">>}."


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "broker")


@pytest.fixture
def queue(layout):
    folder = queue_logs(layout) / "2F_APP"
    folder.mkdir(parents=True)
    (folder / "config").write_bytes(CONFIG)
    return folder


@pytest.mark.parametrize("left", [b"", CONFIG[:20], None])
def test_a_file_that_is_not_whole_is_put_back(layout, queue, left):
    queue_files.keep(layout.home)
    if left is None:
        (queue / "config").unlink()
    else:
        (queue / "config").write_bytes(left)
    assert queue_files.mend(layout) == ["2F_APP"]
    assert (queue / "config").read_bytes() == CONFIG
    assert queue_files.mend(layout) == []


def test_a_whole_file_is_left_alone_and_copied_anew(layout, queue):
    queue_files.keep(layout.home)
    changed = CONFIG.replace(b"2F_APP", b"other")
    (queue / "config").write_bytes(changed)
    assert queue_files.mend(layout) == []
    assert (queue / "config").read_bytes() == changed
    queue_files.keep(layout.home)
    (queue / "config").write_bytes(b"")
    queue_files.mend(layout)
    assert (queue / "config").read_bytes() == changed


def test_a_file_that_is_not_whole_never_replaces_its_copy(layout, queue):
    queue_files.keep(layout.home)
    (queue / "config").write_bytes(b"")
    queue_files.keep(layout.home)
    assert queue_files.mend(layout) == ["2F_APP"]


def test_the_copy_of_a_queue_that_is_gone_is_removed(layout, queue):
    queue_files.keep(layout.home)
    (queue / "config").unlink()
    queue.rmdir()
    queue_files.keep(layout.home)
    assert list((layout.home / "queues").iterdir()) == []


def test_a_node_without_queues_has_nothing_to_keep_or_to_mend(layout):
    layout.home.mkdir()
    queue_files.keep(layout.home)
    assert queue_files.mend(layout) == []
