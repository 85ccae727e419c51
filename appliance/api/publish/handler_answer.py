"""The answer to a request that waited for its handler: the handler's results."""

from typing import Final

import orjson

from appliance.api.publish.receipt import Receipt
from appliance.api.views import formats
from appliance.auth.principal import Principal, Right
from appliance.model.handler_outcomes import DEAD
from appliance.store.handler_rows import HandlerReply
from appliance.store.rows import StoredMessage

_JSON: Final = b"content-type: application/json\r\n"


def handler_answer(
    receipt: Receipt, reply: HandlerReply, principal: Principal, wait_seconds: float, prefix: str
) -> tuple[int, bytes, bytes]:
    """Return the answer's status, headers and JSON body.

    It is 201 where messages were made, 200 where none was, and 202 where the handler failed: the
    message is kept as a dead letter then. The sender sees results in its own topic, for which it
    asked, and others only if it may read them; so the words of a failure, which are the code's.
    """
    members: dict[str, object] = {
        "id": receipt.first_id,
        "topic": receipt.topic,
        "status": "handled",
        "received_at": receipt.received_at,
    }
    status = 201 if reply.total else 200
    if reply.outcome == DEAD:
        status = 202
        members |= {"status": "dead", "reason": reply.reason}
        if principal.may(Right.READ, receipt.topic):
            members["error"] = reply.error
    else:
        shown = [_result(each, receipt.topic, principal) for each in reply.results]
        members |= {"count": reply.total, "results": shown}
    headers = _JSON
    if len(reply.results) == 1 and reply.total == 1:
        where = f"{prefix}/v1/messages/{reply.results[0].id}"
        headers += b"location: %b\r\n" % where.encode("ascii")
    headers += b"preference-applied: wait=%d\r\n" % wait_seconds
    return status, headers, orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


def _result(result: StoredMessage, topic: str, principal: Principal) -> dict[str, object]:
    if result.topic != topic and not principal.may(Right.READ, result.topic):
        return {"id": result.id, "topic": result.topic}
    shown = formats.message(result)
    del shown["meta"]
    return shown
