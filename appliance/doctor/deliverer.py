"""The check whether somebody delivers, where an endpoint waits for messages."""

from typing import Final

from appliance.config import Config
from appliance.doctor.diagnosis import Diagnosis, error, ok, warning
from appliance.errors import StoreError
from appliance.machine.signs import signs
from appliance.model.quantities import span_words
from appliance.store.endpoint_rows import ACTIVE
from appliance.store.endpoints import Endpoints

_CHECK: Final = "deliveries"
#: Seconds without a sign of life after which a process hangs.
_SILENT_SECONDS: Final = 30.0
#: Endpoints that are named.
_MOST_NAMED: Final = 5


def delivers(config: Config, endpoints: Endpoints) -> Diagnosis:
    """Say whether the process that delivers lives, and which endpoints take no messages."""
    try:
        rows = [row for row in endpoints.all() if row.state == ACTIVE]
    except StoreError as trouble:
        return ok(_CHECK, f"not looked at: {trouble}")  # the checks of the database say more
    if not rows:
        return ok(_CHECK, "no endpoint is active")
    living = signs(config)
    ages = [sign.seconds_ago for sign in living if sign.process == "deliver"]
    if not ages and living:
        return error(
            _CHECK,
            "no process delivers, and an endpoint is active",
            "`appliance ctl start deliver`, or on a host `systemctl start appliance-deliver`; "
            "messages wait for it",
        )
    if ages and min(ages) > _SILENT_SECONDS:
        return error(
            _CHECK,
            f"the process that delivers gave no sign of life for {span_words(min(ages))}",
            "`appliance ctl restart deliver`; its log says why; messages wait for it",
        )
    if failing := [row.name for row in rows if row.broken_at is not None]:
        named = ", ".join(failing[:_MOST_NAMED])
        return warning(
            _CHECK,
            f"{len(failing)} of {len(rows)} endpoints take no messages: {named}",
            "`appliance endpoint show NAME` says why; messages wait for them",
        )
    return ok(_CHECK, f"{len(rows)} active" + ("" if living else "; the appliance is stopped"))
