"""A data folder that was moved: the queues' own files say where they were."""

import pytest

from appliance.broker.node import relocated
from appliance.broker.node.layout import NODE_NAME, Layout

CONFIG = """\
#{cluster_name => '%2F_appliance.store',
  friendly_name => "queue 'appliance.store' in vhost '/'",
  system_config =>
      #{data_dir =>
            "OLD/broker/db/appliance@localhost/quorum/appliance@localhost",
        name => quorum_queues,
        wal_data_dir => "OLD/broker/db/appliance@localhost/quorum/appliance@localhost",
        wal_write_strategy => default},
  uid => <<"2F_APPQYMSRI4OMXUH">>}.
"""


@pytest.fixture
def config(tmp_path):
    """Make the file of a queue that lay elsewhere, in the layout of a node in `name`."""

    def make(name, text=CONFIG):
        layout = Layout(tmp_path / name / "broker")
        path = layout.database / NODE_NAME / "quorum" / NODE_NAME / "2F_APPQYMSRI4OMXUH" / "config"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode("latin-1"))
        return layout, path

    return make


def test_a_queue_is_told_where_it_is_and_nothing_else_is_changed(config, tmp_path):
    layout, path = config("new", CONFIG.replace("OLD", '/somewhere/\xfc \\"else\\"'))
    assert relocated.follow(layout)
    assert path.read_text() == CONFIG.replace("OLD", str(tmp_path / "new"))


def test_a_queue_that_is_where_it_was_is_left_alone(config, tmp_path):
    layout, path = config("same", CONFIG.replace("OLD", str(tmp_path / "same")))
    before = path.stat()
    assert not relocated.follow(layout)
    assert path.stat().st_ino == before.st_ino


def test_a_path_is_written_as_erlang_reads_it(config, tmp_path):
    layout, path = config('a "b" \xfc \u0416')
    assert relocated.follow(layout)
    wanted = r"a \"b\" \x{FC} \x{416}"
    assert path.read_bytes().isascii()
    assert path.read_text() == CONFIG.replace("OLD", f"{tmp_path}/{wanted}")
    assert not relocated.follow(layout)


def test_a_node_without_queues_has_nothing_to_follow(tmp_path):
    assert not relocated.follow(Layout(tmp_path))
