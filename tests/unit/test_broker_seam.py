"""The seam of the broker: which modules may know more of it than `broker/base.py`."""

import ast
from pathlib import Path

from appliance.broker import base
from appliance.broker.consumer import AmqpConsumer, AmqpDelivery
from appliance.broker.drain import DrainedDelivery
from appliance.broker.publish.publisher import AmqpPublisher

PACKAGE = Path(__file__).parents[2] / "appliance"

#: Parts that know the node, the probe or the ledger records: they start or examine these.
KNOWS_MORE = {"broker", "doctor", "cli"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("appliance.broker")}


def test_the_worker_the_api_and_all_others_import_the_seam_only():
    users = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        names = imported(path)
        if part not in KNOWS_MORE and names:
            users.add(part)
            assert all(name.startswith("appliance.broker.base.") for name in names), path
    assert users >= {"api", "worker", "readiness"}


def test_concrete_publishers_and_consumers_are_built_in_one_place():
    builders = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(f"{kind.__name__}(" in path.read_text() for kind in (AmqpPublisher, AmqpConsumer))
    ]
    assert builders == ["cli/commands/processes.py"]


def test_the_concrete_classes_have_all_that_the_seam_declares():
    for concrete, seam in (
        (AmqpPublisher, base.Publisher),
        (AmqpConsumer, base.Consumer),
        (AmqpDelivery, base.Delivery),
        (DrainedDelivery, base.Delivery),
    ):
        declared = {name for name in vars(seam) if not name.startswith("_")}
        assert declared - {"refusal"} <= set(dir(concrete))
    assert declared == {"content", "is_drained"}
