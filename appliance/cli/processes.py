"""The processes: one flagless command each, called by supervisord and systemd alike."""

import click
import structlog

from appliance import logs
from appliance.config import Config


@click.command()
@click.pass_obj
def broker(config: Config) -> None:
    """Start our own RabbitMQ node in the foreground, its data below the data folder."""
    from appliance.broker import node

    logs.configure(config, "broker")
    node.start(config)


@click.command()
@click.pass_obj
def migrate(config: Config) -> None:
    """Bring the database to this program's schema; make it if there is none. Ends at once."""
    from appliance.store.migrations import migrate

    logs.configure(config, "migrate")
    applied = migrate(config.database)
    structlog.get_logger(__name__).info(
        "database is ready", path=str(config.database), applied=applied
    )


@click.command()
@click.pass_obj
def api(config: Config) -> None:
    """Serve HTTP: publishing, reading, health."""
    from appliance.api.app import create_app
    from appliance.api.server import serve
    from appliance.broker.publisher import Publisher
    from appliance.store.reader import Reader
    from appliance.store.watch import Watch
    from appliance.supervision import processes

    logs.configure(config, "api")
    publisher, reader = Publisher(config), Reader(config.database)
    app = create_app(config, reader, publisher.state, lambda: processes.read(config))
    serve(config, publisher, Watch(config.database), app)


@click.command()
@click.pass_obj
def worker(config: Config) -> None:
    """Store what the queue holds; a second worker stands by."""
    import uvloop

    from appliance.worker import Worker

    async def run() -> None:
        await Worker(config).run()

    logs.configure(config, "worker")
    uvloop.run(run())


@click.command()
@click.pass_obj
def janitor(config: Config) -> None:
    """Keep the database's files small."""
    from appliance import janitor

    logs.configure(config, "janitor")
    janitor.run(config)


@click.command()
@click.pass_obj
def listener(config: Config) -> None:
    """End everything when a program can't be kept alive."""
    from appliance.supervision import listener

    logs.configure(config, "listener")
    listener.run(config)
