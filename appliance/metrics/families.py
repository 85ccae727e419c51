"""Every metric once: its name, its kind, its help. docs/metrics.md has them too."""

from typing import Final, NamedTuple

PREFIX: Final = "appliance_"


class Family(NamedTuple):
    """A metric; `name` is without the prefix, `labels` are the names of its labels."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name, "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name, "gauge", text, labels)


FAMILIES: Final = (
    _gauge("build_info", "1; the labels are the versions", "version", "python", "engine"),
    _gauge("ready", "1 if a message sent now would be stored, as /readyz says"),
    # --- in
    _counter("messages_accepted_total", "Messages that the broker confirmed to have on disk"),
    _counter(
        "requests_refused_total", "Requests answered with a problem, by its type", "reason"
    ),
    _counter("envelopes_published_total", "Envelopes sent to the broker, repetitions too"),
    _counter("envelopes_confirmed_total", "Envelopes that the broker confirmed"),
    _counter("envelopes_nacked_total", "Envelopes that the broker refused, its queue being full"),
    Family(
        "publish_duration_seconds", "histogram",
        "From a message's arrival in the publisher to the broker's confirm",
    ),
    _gauge("open_streams", "Server-Sent Events streams that are open"),
    # --- through
    _gauge("broker_connected", "1 if the API is connected to the broker"),
    _gauge("broker_blocked", "1 if an alarm of the broker's holds publishers back"),
    _gauge("queue_envelopes", "Envelopes that wait in the queue"),
    _gauge(
        "shard_envelopes", "Envelopes that wait in the queue of a shard, of several", "shard"
    ),
    _gauge("queue_consumers", "Workers that are attached to the queue"),
    _gauge("queue_oldest_age_seconds", "How long the oldest envelope has waited in the queue"),
    _gauge("store_holding_seconds", "How long a worker has been storing its messages in hand"),
    # --- stored
    _counter("messages_stored_total", "Messages that became rows"),
    _counter("messages_duplicate_total", "Messages that came again and were rows already"),
    _counter("messages_dead_total", "Messages that became dead letters", "reason"),
    _counter("messages_quarantined_total", "Messages that became dead letters in the quarantine"),
    _counter("transactions_total", "Transactions in which workers stored"),
    Family(
        "store_lag_seconds", "histogram",
        "From the moment a message was accepted to its commit in the database",
    ),
    _counter(
        "handler_messages_total",
        "Messages that a handler made messages of, or dropped; failures; those for good",
        "outcome",
        "function",
    ),
    Family("handler_duration_seconds", "histogram", "How long a handler's function took"),
    _gauge("handler_waiting_messages", "Messages that wait for their handler", "function"),
    _gauge("handler_waiting_age_seconds", "How long ago the oldest of them came", "function"),
    _gauge("messages", "Messages in the database"),
    _gauge("topics", "Topics in the database"),
    _gauge("last_message_timestamp_seconds", "When the newest message was received, Unix time"),
    _gauge("dead_letters", "Dead letters in the database"),
    _gauge("quarantine_letters", "Those of them that are quarantined"),
    _gauge("quarantine_size_bytes", "Their size"),
    _gauge("database_size_bytes", "Size of the database's file"),
    _gauge("wal_size_bytes", "Size of the database's write-ahead log"),
    _gauge(
        "database_synchronous_copies",
        "Standbys of PostgreSQL that have each message when it counts as stored",
    ),
    _gauge(
        "backup_restorable_timestamp_seconds",
        "When the newest proven backup was proven, Unix time; absent if none is",
    ),
    _gauge(
        "backup_restorable_made_timestamp_seconds", "When that backup was made, Unix time"
    ),
    _gauge(
        "canary_last_stored_timestamp_seconds",
        "When the last canary became a row, Unix time; absent if none did",
    ),
    _gauge("canary_duration_seconds", "How long that took, from the public address to the row"),
    _counter("canary_failed_total", "Canaries that did not become a row in time"),
    _gauge("alert_active", "1 while an alert of the appliance's own is raised", "alert", "subject"),
    # --- out
    _counter(
        "deliveries_total", "Messages delivered, given up or gone; attempts failed", "outcome"
    ),
    _gauge("endpoints_active", "Endpoints that are not paused"),
    _gauge("endpoints_failing", "Those of them whose messages wait because attempts failed"),
    _gauge("endpoint_failing_age_seconds", "For how long the one of them has that is longest so"),
    _gauge("delivery_lag_messages", "Messages stored behind the place of the slowest endpoint"),
    _gauge("delivery_lag_seconds", "Since when an endpoint has not been up to date, the longest"),
    _gauge(
        "endpoint_lag_messages", "Messages of its topics stored behind an endpoint's place",
        "endpoint",
    ),
    _gauge("endpoint_lag_seconds", "How long ago the oldest of them was received", "endpoint"),
    _gauge(
        "endpoint_waiting_messages", "Messages whose delivery failed and is tried again",
        "endpoint",
    ),
    _gauge(
        "endpoint_given_up_messages", "Messages that were given up, until someone decides",
        "endpoint",
    ),
    _gauge("endpoint_breaker_open", "1 while its messages wait because it fails", "endpoint"),
    _gauge("endpoint_paused", "1 while it is paused", "endpoint"),
    _gauge(
        "subscription_lag_messages", "Messages never handed out, counted up to 10,000",
        "subscription",
    ),
    _gauge("subscription_leased_messages", "Messages that consumers have now", "subscription"),
    _gauge(
        "subscription_waiting_messages", "Messages that wait for another attempt", "subscription"
    ),
    _gauge("subscription_dead_messages", "Messages that were given up", "subscription"),
    _counter(
        "subscription_redelivered_total", "Messages handed out once more", "subscription"
    ),
    _gauge("replays", "Replays, of the 100 newest, by their state", "state"),
    _gauge("replay_sent_messages", "Messages that those have delivered or copied", "state"),
    _gauge("delayed_messages", "Messages that wait for their time"),
    _gauge(
        "delayed_next_due_timestamp_seconds",
        "When the first of them is due, Unix time; absent if none waits",
    ),
    # --- below
    _gauge("disk_free_bytes", "Free space", "disk"),
    _gauge("disk_size_bytes", "Size of the disk", "disk"),
    _gauge("disk_floor_bytes", "Free space below which messages are refused", "disk"),
    _gauge(
        "disk_full_timestamp_seconds",
        "When that is reached at the last day's rate, Unix time; absent if nothing foretells it",
        "disk",
    ),
    _gauge("process_up", "1 if the process runs, as its supervisor says", "process"),
    _gauge("process_uptime_seconds", "How long the process has been running", "process"),
    _counter("process_starts_total", "How often a process of this name was started", "process"),
    _gauge("heartbeat_age_seconds", "How old its last sign of life is", "process"),
)  # fmt: skip
