"""Sending a message again, and emptying a topic, in a real browser."""

import json

import pytest


def newest(inbox, topic):
    """Id, body, content type and meta of a topic's messages, newest first."""
    return inbox.query(
        "SELECT id, body, content_type, meta FROM messages WHERE topic = ? ORDER BY seq DESC", topic
    )


@pytest.mark.parametrize("scripts", [True, False])
def test_a_message_is_sent_again_as_another_one_with_what_came_along(
    browse, inbox, stored, scripts
):
    topic = f"again.{str(scripts).lower()}"
    body = '\n{"n": 9223372036854775807, "s": "ß </textarea>"}\n\n'
    came = {"Content-Type": "application/json", "X-GitHub-Event": "issues",
            "X-GitHub-Delivery": f"72d3-{topic}", "Traceparent": "00-a-b-01"}  # fmt: skip
    (one,) = stored(topic, body, **came)
    page = browse(f"/console/messages/{one}", java_script_enabled=scripts)
    page.get_by_role("link", name="Send again…").click()
    page.wait_for_url("**/console/send?from=*")
    assert len(newest(inbox, topic)) == 1  # nothing goes by itself
    assert page.input_value("#topic") == topic
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_text("Stored.").wait_for()
    page.reload()  # the browser sends the form once more, and its key makes it the same message
    page.get_by_text("Stored.").wait_for()
    (other, again, content_type, meta), first = newest(inbox, topic)
    assert first["id"] == one
    assert other != one
    assert (again, content_type) == (body, "application/json")
    headers = json.loads(meta)["headers"]
    assert headers["x-github-event"] == "issues"
    assert headers["traceparent"] == "00-a-b-01"
    assert "x-github-delivery" not in headers


def test_bytes_are_sent_again_as_they_are_to_another_topic(browse, inbox, stored):
    body = bytes(range(256)) * 300
    (one,) = stored("again.bytes", body, **{"Content-Type": "image/x-odd"})
    page = browse(f"/console/send?from={one}")
    page.fill("#topic", "again.elsewhere")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_text("Stored.").wait_for()
    ((_, again, content_type, _),) = newest(inbox, "again.elsewhere")
    assert (again, content_type) == (body, "image/x-odd")
    assert len(newest(inbox, "again.bytes")) == 1


def test_an_event_is_sent_again_as_another_message_though_it_has_an_id(browse, inbox, stored):
    event = '{"specversion":"1.0","id":"e-1","source":"/s","type":"t","data":1}'
    (one,) = stored("again.event", event, **{"Content-Type": "application/cloudevents+json"})
    page = browse(f"/console/send?from={one}")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_text("Stored.").wait_for()
    bodies = [row["body"] for row in newest(inbox, "again.event")]
    assert bodies == [event, event]


def test_a_topic_is_emptied_once_its_name_is_typed_and_others_stay(browse, inbox, stored):
    """Without scripts: the page has none of its own."""
    topic = "waste"
    stored(topic, *(f"message {n}" for n in range(30)))
    stored(f"{topic}.kept", "x")
    page = browse(f"/console/topics/{topic}", java_script_enabled=False)
    page.get_by_role("link", name="Empty topic…").click()
    page.get_by_text("30 messages").first.wait_for()
    page.fill("#typed", f"{topic}.kept")
    page.get_by_role("button", name=f"Empty {topic}").click()
    page.get_by_text("That is not its name. Nothing was deleted.").wait_for()
    assert inbox.count(topic) == 30
    page.fill("#typed", topic)
    page.get_by_role("button", name=f"Empty {topic}").click()
    page.get_by_text("30 messages of 290 B are gone").wait_for()  # the page looks by itself
    assert inbox.count(topic) == 0
    assert inbox.count(f"{topic}.kept") == 1
    page.get_by_role("link", name=f"Messages of {topic}").click()
    page.get_by_text("No message is stored here now").wait_for()
    counters = "SELECT coalesce(sum(messages), 0) FROM topics WHERE topic LIKE ?"
    assert inbox.query(counters, f"{topic}%")[0][0] == 1
