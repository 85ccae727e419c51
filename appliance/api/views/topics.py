"""Topics, and the messages of one topic."""

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters, searches, visible
from appliance.api.views.answers import json_answer, problem_answer
from appliance.model.topics import check_topic

TOPIC_PARAMETERS = ("after", "limit")


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/topics and the messages of one topic."""
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

    return views
