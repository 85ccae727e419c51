"""Names of topics, and what the names of other systems become."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import TopicError
from appliance.model.topics import check_topic, map_topic


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("orders", "orders"),
        ("Orders", "orders"),
        ("Home/Kitchen/temp", "home.kitchen.temp"),
        ("/home/kitchen", "home.kitchen"),
        ("$SYS/broker", "sys.broker"),
        ("a//b", "a..b"),
        ("my topic", "my_topic"),
        ("Küche", "kuche"),
        ("K\u0075\u0308che", "kuche"),
        ("Straße", "stra_e"),
        ("\uff21\uff22\uff23", "abc"),
        ("日本", None),
        ("_internal", "internal"),
        ("sensor@42", "sensor_42"),
        ("a\0b\nc", "a_b_c"),
        ("\U0001f980x", "x"),
        ("A" * 100, "a" * 100),
        ("a" * 101, None),
        ("a" + "\u0301" * 399, "a"),
        ("a" + "\u0301" * 400, None),
        ("", None),
        ("...", None),
        ("\ud800", None),
    ],
)
def test_a_name_of_another_system_is_always_the_same_topic(name, topic):
    if topic is None:
        with pytest.raises(TopicError):
            map_topic(name)
    else:
        assert map_topic(name) == topic


@given(st.text(max_size=120))
def test_a_mapped_name_is_a_topic_and_maps_to_itself(name):
    try:
        topic = map_topic(name)
    except TopicError:
        return
    assert check_topic(topic) == topic == map_topic(topic)
    assert map_topic(unicodedata.normalize("NFD", name)) == topic


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,99}", fullmatch=True))
def test_a_valid_name_is_left_alone(name):
    assert map_topic(name) == re.sub(r"\n", "", name)
