"""Topics, the messages of one topic, and the shape that these have."""

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters, searches, visible
from appliance.api.views.answers import json_answer, problem_answer
from appliance.model.shape import shape_of
from appliance.model.topics import check_topic
from appliance.store.samples import newest_bodies

TOPIC_PARAMETERS = ("after", "limit")


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/topics, and of one topic the messages and their shape."""
    views = Blueprint("topics", __name__)
    reader = services.reader

    @views.get("/v1/topics")
    def list_topics() -> Response:
        query = parameters.read(request.args.to_dict(flat=False), TOPIC_PARAMETERS)
        after = parameters.parse_topic_cursor("after", query.get("after"))
        limit = parameters.page_limit(query.get("limit"))
        rows = reader.topics(after=after, limit=limit + 1, patterns=visible.patterns())
        following = parameters.topic_cursor(rows[limit - 1].topic) if len(rows) > limit else None
        return json_answer(
            {
                "topics": [topic._asdict() for topic in rows[:limit]],
                "next": following,
                "next_url": pages.url({**query, "after": following}) if following else None,
            }
        )

    @views.get("/v1/topics/<topic>/messages")
    def list_messages(topic: str) -> Response:
        asked = searches.read(topics=(check_topic(topic),))
        if not visible.sees(topic):
            return problem_answer(problems.forbidden("the token has no right to read this topic"))
        answer = asked.answer(reader)
        if not reader.has_topic(topic):
            if request.method == "HEAD":  # senders look whether they can send to an address
                return Response(status=200)
            return problem_answer(
                problems.not_found(
                    f"the topic {topic} has never had a message", problems.RETRY_MESSAGE_SECONDS
                )
            )
        return answer()

    @views.get("/v1/topics/<topic>/shape")
    def show_shape(topic: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        check_topic(topic)
        if not visible.sees(topic):
            return problem_answer(problems.forbidden("the token has no right to read this topic"))
        if not reader.has_topic(topic):
            return problem_answer(
                problems.not_found(
                    f"the topic {topic} has never had a message", problems.RETRY_MESSAGE_SECONDS
                )
            )
        shape = shape_of(newest_bodies(reader, topic))
        return json_answer(
            {
                "topic": topic,
                "looked_at": shape.bodies,
                "json": shape.json,
                "keys": [
                    {
                        "path": key.path,
                        "share": round(key.bodies / shape.bodies, 4),
                        "kinds": key.kinds,
                    }
                    for key in shape.keys.values()
                ],
                "left_out": shape.left_out,
            }
        )

    return views
