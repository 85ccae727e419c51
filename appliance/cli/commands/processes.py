"""The processes: one command without options each, for supervisord and systemd alike."""

import contextlib
import sys
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

import click
import structlog

from appliance.config import Config
from appliance.errors import StoreError, StoreLockedError
from appliance.logs import setup
from appliance.machine import disk_space
from appliance.machine.complaint import Complaint

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.broker.publish.publisher import AmqpPublisher
    from appliance.broker.publish.sharded import ShardedPublisher
    from appliance.broker.stored_feed import Behind
    from appliance.metrics.board import Numbers
    from appliance.store.base import Duty, Store

#: Free bytes and inodes below which a database can't be opened for want of space, and seconds
#: between two attempts then, or while another program holds it.
_ROOM_BYTES: Final = 2**20
_ROOM_INODES: Final = 10
_ROOM_PAUSE: Final = 1.0
#: Topics, by name, whose new messages a terminal shows.
_TOPICS_WATCHED: Final = 1000


@click.command()
@click.pass_obj
def broker(config: Config) -> None:
    """Start our own RabbitMQ node in the foreground, its data below the data folder."""
    from appliance.broker.node import start
    from appliance.machine.pulse import BEAT_SECONDS, Pulse

    setup.configure(config, "broker")
    if not config.broker_urls:
        start.start(config)
    with Pulse(config, "broker") as pulse:
        pulse.ready()
        pulse.status("an outside broker is used")
        start.stand_by(pulse.beat, BEAT_SECONDS)


@click.command()
@click.pass_obj
def migrate(config: Config) -> None:
    """Bring the database to this program's schema, made now if there is none; then end."""
    from appliance.doctor import checks
    from appliance.store import open_store

    setup.configure(config, "migrate")
    log = structlog.get_logger(__name__)
    store = open_store(config)
    for result in checks.at_start(config, store, broker=False):
        log.warning(
            "start check failed", check=result.check, finding=result.found, advice=result.advice
        )
    no_space = Complaint(
        log, "database waiting for space", "database has space again", level="error"
    )
    locked = Complaint(log, "database locked by another program", "database free again")
    while True:
        try:
            with store.in_use():
                applied = store.migrate()
        except StoreLockedError as error:  # it has waited for some seconds
            locked.fails(error=str(error))
            time.sleep(_ROOM_PAUSE)  # SQLite doesn't wait for every lock
        except StoreError as error:
            # Otherwise everything would end for want of a few pages, and not come back by itself.
            lacks = disk_space.disk(config.data, "the data's disk", _ROOM_BYTES, _ROOM_INODES).lacks
            if not lacks:
                raise
            no_space.fails(error=str(error), reason=lacks)
            time.sleep(_ROOM_PAUSE)
        else:
            break
    no_space.works()
    locked.works()
    log.info("database ready", path=store.location, applied=applied)


@click.command()
@click.pass_obj
def api(config: Config) -> None:
    """Serve HTTP: publishing, reading, health."""
    import os
    import threading

    from appliance import credentials
    from appliance.api import activity
    from appliance.api.app import create_app
    from appliance.api.http import problems
    from appliance.api.pull.pull_hub import PullHub
    from appliance.api.server import serve
    from appliance.api.stream.hub import StreamHub
    from appliance.auth.authorizer import Authorizer
    from appliance.cli.composition import api_services
    from appliance.machine.pulse import Pulse
    from appliance.machine.signs import signs
    from appliance.metrics import board, series
    from appliance.metrics.board import Numbers
    from appliance.store import open_store

    setup.configure(config, "api")
    publisher, store = new_publisher(config), open_store(config)
    stopping, authorizer = threading.Event(), Authorizer(credentials.token(config))
    services = api_services(
        config,
        store,
        publisher.state,
        publisher.publish_and_wait,
        mark=publisher.mark_and_wait,
        stopping=stopping,
        authorizer=authorizer,
    )
    app = create_app(services)
    streams = StreamHub(config.max_streams, store.follower, authorizer, services.streams)
    pulls = PullHub(config.max_streams, store.puller, authorizer)

    def count_messages() -> dict[str, int]:
        topics = services.reader.topics(limit=_TOPICS_WATCHED)
        return {each.topic: each.messages for each in topics}

    def lag() -> tuple[float, float]:
        values = board.totals(config).histograms.get("store_lag_seconds", [0.0])
        return values[-1], sum(values[:-1])

    def is_first() -> bool:
        others = [sign.pid for sign in signs(config) if sign.process == "api"]
        return os.getpid() == min(others, default=os.getpid())

    watched = count_messages if config.log_format == "terminal" else None

    def numbers() -> Numbers:
        state = publisher.state()
        return series.of_api(
            publisher.tally,
            problems.answered(),
            services.streams,
            state.oldest_seconds,
            state.depth,
        )

    with (
        store.in_use(),
        Pulse(config, "api") as pulse,
        board.shown(config, "api", numbers),
        activity.running(pulse, lambda: services.readiness().ready, watched, lag, is_first),
        services.refresher.running(pulse),
    ):
        serve(
            config, authorizer, publisher, store.commits, app, services.book, services.door,
            streams, pulls, pulse=pulse, stopping=stopping,
        )  # fmt: skip


def new_publisher(config: Config) -> "AmqpPublisher | ShardedPublisher":
    """Return the publisher for the number of shards that is set."""
    from appliance.broker import shards
    from appliance.broker.publish.publisher import AmqpPublisher
    from appliance.broker.publish.sharded import ShardedPublisher

    if config.shards == 1:
        return AmqpPublisher(config)
    return ShardedPublisher([AmqpPublisher(config, each) for each in shards.all_of(config.shards)])


@click.command()
@click.pass_obj
def worker(config: Config) -> None:
    """Store the messages in the queue; a second worker stands by."""
    import uvloop

    from appliance.broker.consumer import AmqpConsumer
    from appliance.delayed_mover import DelayedMover
    from appliance.deletion import Deleter
    from appliance.machine.allowance import allowance
    from appliance.machine.pulse import Pulse
    from appliance.metrics import board, series
    from appliance.replay_copier import ReplayCopier
    from appliance.schemas.foreign_fitter import ForeignFitter
    from appliance.store import open_store
    from appliance.worker import CONSUMING, STORING, Worker

    store = open_store(config)

    async def run() -> None:
        with Pulse(config, "worker", CONSUMING, STORING) as pulse:
            consumer, fitter = AmqpConsumer(config), ForeignFitter(store)
            deleter = Deleter(store.deletions.work)
            mover = DelayedMover(store.delayed, store.open_writer, store.handling)
            copier = ReplayCopier(
                store.replays, store.open_writer, lambda: disk_space.lacking(config)
            )
            working = Worker(
                pulse, consumer, store.open_writer, allowance(config), fitter.fitted_all, deleter,
                mover, copier,
            )  # fmt: skip
            with board.shown(
                config, "worker", lambda: series.of_worker(store.tally, working.holding_seconds)
            ):
                await working.run()

    setup.configure(config, "worker")
    with store.in_use():
        uvloop.run(run())


@click.command()
@click.pass_obj
def janitor(config: Config) -> None:
    """Keep the database small, delete old messages, make scheduled backups and prove them."""
    from appliance import janitor
    from appliance.alerts import alert_watch
    from appliance.broker import probe, stored_feed
    from appliance.history import recorder
    from appliance.machine.pulse import Pulse
    from appliance.metrics import board
    from appliance.proofs import prover
    from appliance.store import open_store

    setup.configure(config, "janitor")
    stop = janitor.told_to_stop()  # before a thread looks a name up, which can take long
    store = open_store(config)
    with (
        store.in_use(),
        Pulse(config, "janitor", "chores", probe.LOOP) as pulse,
        probe.running(config, pulse),
        alert_watch.watching(config, store.reader, store.endpoints, store.handling) as watch,
        prover.proving(config, store.backup) as proofs,
        _canaries(config, store) as canaries,
        board.shown(
            config,
            "janitor",
            lambda: board.together(watch.numbers(), proofs.numbers(), canaries()),
        ),
        recorder.recording(config, store.history),
        stored_feed.running(config, _behind(store)),
    ):
        janitor.run(config, store, pulse, stop, _renewals(config))


def _behind(store: "Store") -> "Behind":
    """Return how the stored messages are read that subscribers get one by one."""
    from appliance.broker.stored_feed import Behind
    from appliance.store.rows import Followed

    follower, all_topics = store.follower, Followed()
    return Behind(
        follower.begin,
        follower.end,
        lambda after, upto: follower.part(all_topics, after, upto),
    )


def _renewals(config: Config) -> "list[Duty]":
    """Return the duty that takes up renewed certificates of our own broker, where it serves TLS."""
    from appliance.broker.node import certificate
    from appliance.store.base import Duty

    if not config.broker_serves_tls:
        return []
    renewal = certificate.Renewal(config)
    return [Duty(renewal.renew, certificate.LOOK_SECONDS, renewal.complaint)]


def _canaries(config: Config, store: "Store") -> "AbstractContextManager[Callable[[], Numbers]]":
    """Return the block in which canaries are sent, if any are; else its memory is saved."""
    from appliance.metrics.board import Numbers

    if not config.canary_every:
        return contextlib.nullcontext(Numbers)
    from appliance.canary import sender

    return sender.canaries(config, store)


@click.command()
@click.pass_obj
def deliver(config: Config) -> None:
    """Send stored messages on to the endpoints."""
    from appliance.deliver import delivering
    from appliance.machine.pulse import Pulse
    from appliance.store import open_store

    setup.configure(config, "deliver")
    store = open_store(config)
    with store.in_use(), Pulse(config, "deliver") as pulse:
        delivering.run(config, store.deliveries, pulse)


@click.command()
@click.pass_obj
def handle(config: Config) -> None:
    """Run the handlers' functions: messages of their topics become rows as these say."""
    from appliance.handle import handle as handling
    from appliance.machine.pulse import Pulse
    from appliance.store import open_store

    setup.configure(config, "handle")
    store = open_store(config)
    with store.in_use(), Pulse(config, "handle") as pulse:
        handling.run(config, store, pulse)


@click.command()
@click.pass_obj
def listener(config: Config) -> None:
    """End everything when a program can't be kept alive; restart programs that hang."""
    from appliance.machine.pulse import Pulse
    from appliance.supervision import listener

    setup.configure(config, "listener")
    with Pulse(config, "listener") as pulse:
        listener.run(config, pulse, sys.stdin, sys.stdout)
