"""The plan of an endpoint: the meaning of its row, checked again: SQL can have changed it."""

from dataclasses import dataclass, replace

from appliance.errors import InputError
from appliance.model import grants
from appliance.model.endpoint_settings import (
    EndpointSettings,
    endpoint_conditions,
    endpoint_settings,
    endpoint_target,
    endpoint_topics,
)
from appliance.model.endpoint_url import EndpointUrl
from appliance.model.grants import Rate
from appliance.store.endpoint_rows import Outfit
from appliance.store.filters import MessageFilter


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """What an endpoint gets, and how."""

    outfit: Outfit
    url: EndpointUrl
    settings: EndpointSettings
    filter: MessageFilter
    rate: Rate | None

    def of_topic(self, topic: str) -> MessageFilter:
        """Return the filter of one of its topics."""
        return replace(self.filter, topics=(topic,))


def plan(outfit: Outfit) -> DeliveryPlan:
    """Return what an endpoint's row means. Raises InputError where it can't be used."""
    row = outfit.row
    if not row.topics:
        raise InputError("topics: expected a list of patterns; * stands for every topic")
    if not outfit.secrets:
        raise InputError("it has no secret to sign with; add one")
    settings = endpoint_settings(row.settings)
    return DeliveryPlan(
        outfit,
        endpoint_target(row.url),
        settings,
        MessageFilter(topics=endpoint_topics(row.topics), where=endpoint_conditions(row.where)),
        grants.rate(settings.rate) if settings.rate else None,
    )


def is_same(one: Outfit, other: Outfit) -> bool:
    """Whether two readings of an endpoint have the same plan; where it stands is no part of it."""
    return (_told(one), one.secrets, one.headers) == (_told(other), other.secrets, other.headers)


def _told(outfit: Outfit) -> tuple[object, ...]:
    row = outfit.row
    return (row.id, row.url, row.topics, row.where, row.settings, row.changed_at)
