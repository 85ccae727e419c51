"""The files that `appliance handler new` writes: a handler to begin with, and a test of it."""

from typing import Final

HANDLER: Final = '''\
"""The handler {name}: says in a sentence for what it is."""

from appliance.handler import HandlerMessage, Reject


def handle(message: HandlerMessage) -> HandlerMessage | list[HandlerMessage] | None:
    """Return what is to be stored: the message, changed or not, several, or none.

    Raise Reject where the message is at fault: it becomes a dead letter at once. After any other
    exception the message comes again, a few times. It can come again after a success, too, so do
    nothing outside that must not be done twice.
    """
    try:
        document = message.json()
    except ValueError as error:
        raise Reject(f"no JSON: {{error}}") from error
    if not isinstance(document, dict):
        return message
    if document.get("test"):
        return None
    return message.replace(body=document | {{"handled_by": "{name}"}})
'''

TEST: Final = '''\
"""Tests of the handler {name}; run them with pytest, in this folder."""

import pytest
from {name} import handle

from appliance.handler import HandlerMessage, Reject


def message(body: bytes) -> HandlerMessage:
    return HandlerMessage(topic="orders", id="an id", body=body)


def test_a_document_is_marked():
    assert handle(message(b'{{"total": 3}}')).json() == {{"total": 3, "handled_by": "{name}"}}


def test_a_test_is_dropped():
    assert handle(message(b'{{"test": true}}')) is None


def test_a_body_that_is_no_json_is_rejected():
    with pytest.raises(Reject, match="no JSON"):
        handle(message(b"hello"))
'''
