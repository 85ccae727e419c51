"""The appliance's own canaries are removed, and nothing else that is in their topic."""

from store_contents import one

from appliance.model.topics import CANARY_BEGIN, CANARY_TOPIC


def test_canaries_go_with_their_topic(store, writer, contents):
    canary = one(CANARY_BEGIN.encode() + b"1", CANARY_TOPIC)
    writer.store([one(b"kept"), canary])
    assert store.take_canaries() == [canary.id]
    assert contents.bodies() == [b"kept"]
    assert [topic.topic for topic in store.reader.topics()] == ["t"]
    assert store.take_canaries() == []


def test_messages_of_anyone_else_in_their_topic_stay(store, writer, contents):
    writer.store([one(body, CANARY_TOPIC) for body in (b"mine", b"\0\xff", CANARY_BEGIN.encode())])
    assert len(store.take_canaries()) == 1
    assert contents.bodies() == [b"mine", b"\0\xff"]
    assert contents.counters() == contents.sums()
