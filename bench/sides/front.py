"""The least that stands between HTTP and something that keeps a message: one ASGI function."""

from collections.abc import Awaitable, Callable

import orjson
import uvicorn

Keep = Callable[[str, bytes], Awaitable[object]]


def serve(port: int, keep: Keep, start: Callable[[], Awaitable[object]] | None = None) -> None:
    """Serve on `port`: the last part of the path is the topic; 202 when `keep` has returned."""
    started = start is None

    async def app(scope, receive, send) -> None:
        nonlocal started
        if not started:
            started = True
            await start()
        body, more = b"", True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        topic = scope["path"].rpartition("/")[2]
        await keep(topic, body)
        answer = orjson.dumps(
            {
                "id": "01234567-89ab-7cde-8f01-234567890000",
                "topic": topic,
                "status": "queued",
                "received_at": "2000-01-01T00:00:00.000Z",
            }
        )
        length = b"%d" % len(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
