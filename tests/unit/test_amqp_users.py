"""Users of our own node: their file, and what RabbitMQ is told of them."""

import json
import re
import stat

import pytest

from appliance import config as configuration
from appliance.broker.node import control, users
from appliance.errors import ExistsError, InputError, LimitError, NodeError, NotRunningError


def test_user_is_in_the_file_without_its_password_and_out_of_it_again(tmp_path):
    made, password = users.create(tmp_path, "till", subscribes=False)
    path = tmp_path / "amqp-users.json"
    assert users.read(tmp_path) == [made]
    assert password not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert users.remove(tmp_path, "till")
    assert not users.remove(tmp_path, "till")
    assert users.read(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a.b", "A", "-a", "a" * 41, "a b", "a\n", "^a", "a*"])
def test_name_that_would_be_more_than_a_name_is_refused(tmp_path, name):
    with pytest.raises(InputError):
        users.create(tmp_path, name, subscribes=True)


@pytest.mark.parametrize("name", ["appliance", "till"])
def test_name_that_is_taken_is_refused(tmp_path, name):
    users.create(tmp_path, "till", subscribes=False)
    with pytest.raises(ExistsError):
        users.create(tmp_path, name, subscribes=False)


def test_users_are_bounded(tmp_path):
    first, _ = users.create(tmp_path, "u0", subscribes=False)
    many = [{**vars_of(first), "name": f"u{n}"} for n in range(100)]
    (tmp_path / "amqp-users.json").write_text(json.dumps(many))
    with pytest.raises(LimitError):
        users.create(tmp_path, "one-more", subscribes=False)


def vars_of(user):
    return {name: getattr(user, name) for name in user.__slots__}


def test_file_that_is_not_ours_is_told(tmp_path):
    (tmp_path / "amqp-users.json").write_text('[{"name": "x"}]')
    with pytest.raises(NodeError, match="amqp-users"):
        users.read(tmp_path)


@pytest.mark.parametrize(
    ("subscribes", "right", "may", "may_not"),
    [
        (False, "write", ["appliance"], ["appliance.store", "appliance.dead", "", "amq.default"]),
        (False, "configure", [""], ["appliance", "x"]),
        (False, "read", [""], ["appliance", "appliance.store"]),
        (True, "write", ["appliance.sub.a.x"], ["appliance", "appliance.sub.ab.x", "amq.default"]),
        (True, "configure", ["appliance.sub.a.x"], ["appliance.sub.a", "appliance.store"]),
        (
            *(True, "read", ["appliance.stored", "appliance.stored.match", "appliance.sub.a.x"]),
            ["appliance", "appliance.store", "appliance.dead"],
        ),
    ],
)
def test_rights_of_a_user_are_for_its_own_names_only(tmp_path, subscribes, right, may, may_not):
    made, _ = users.create(tmp_path, "a", subscribes=subscribes)
    (rights,) = users.imported([made])["permissions"]
    assert all(re.search(rights[right], name) for name in may)
    assert not any(re.search(rights[right], name) for name in may_not)


def test_user_of_queues_may_declare_them_and_publish_by_the_default_exchange(tmp_path):
    made, _ = users.create(tmp_path, "old", subscribes=False, queues=["hello", "a.b"])
    (rights,) = users.imported([made])["permissions"]
    assert re.search(rights["write"], "amq.default")
    for name in ("hello", "a.b"):
        assert re.search(rights["configure"], name)
    for name in ("axb", "hello2", "appliance", "appliance.store", "appliance.sub.a.x"):
        assert not re.search(rights["configure"], name)
        assert not re.search(rights["write"], name)
    assert rights["read"] == "^$"
    assert users.read(tmp_path) == [made]


@pytest.mark.parametrize("queue", ["", "appliance.store", "amq.x", "a b", "a|b", "a" * 201])
def test_queue_of_the_appliances_own_is_nobodys(tmp_path, queue):
    with pytest.raises(InputError):
        users.create(tmp_path, "old", subscribes=False, queues=[queue])


def test_file_of_a_user_without_queues_is_one_that_an_earlier_version_reads(tmp_path):
    users.create(tmp_path, "till", subscribes=False)
    assert "queues" not in (tmp_path / "amqp-users.json").read_text()


def test_users_are_made_where_the_appliances_own_node_runs_and_nowhere_else(tmp_path):
    own = configuration.load({"APPLIANCE_DATA": str(tmp_path)})
    with pytest.raises(NotRunningError):
        control.create_user(own, "till", subscribes=False)
    outside = configuration.load(
        {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_BROKER_URL": "amqp://u:p@broker.example/"}
    )
    for act in (
        lambda: control.create_user(outside, "till", subscribes=False),
        lambda: control.remove_user(outside, "till"),
    ):
        with pytest.raises(NodeError, match="APPLIANCE_BROKER_URL"):
            act()
    assert users.read(tmp_path / "broker") == []
