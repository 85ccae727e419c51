"""Files of the node, read before it starts; tests/faults has a disk that fails to give them."""

import os

from appliance.broker.node.readable import find_unreadable


def test_files_of_all_sorts_are_well(tmp_path):
    below = tmp_path / "broker" / "db" / "queue"
    below.mkdir(parents=True)
    (below / "large").write_bytes(os.urandom(3 * 2**20 + 1))
    (below / "small").write_bytes(b"x")
    (below / "empty").touch()
    (below / "nowhere").symlink_to("gone")
    (below / "round").symlink_to(below)
    os.mkfifo(below / "pipe")
    assert find_unreadable(tmp_path / "broker") == ""


def test_a_folder_that_is_not_there_is_well(tmp_path):
    assert find_unreadable(tmp_path / "none") == ""
