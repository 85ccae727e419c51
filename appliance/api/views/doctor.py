"""The checks of the machine, the disk and the data. The gate lets administrators in only."""

import threading
from typing import Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import parameters
from appliance.api.views.answers import json_answer, problem_answer
from appliance.errors import BusyError
from appliance.operations.operations import DOCTOR_SECONDS

#: Requests that wait for the checks; each holds a thread, and others must stay free.
_WAITING: Final = 2


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/doctor; requests that come during the checks share their outcome."""
    views, chore = Blueprint("doctor", __name__), services.operations.doctor
    free = threading.BoundedSemaphore(_WAITING)

    @views.get("/v1/doctor")
    def examine() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if request.method == "HEAD":  # nothing is shown, so nothing is checked
            return Response(status=200, content_type="application/json")
        if not free.acquire(blocking=False):
            raise BusyError("the checks are under way for others; they take some seconds")
        try:
            chore.begin("doctor")
            if not chore.wait(DOCTOR_SECONDS):
                raise BusyError("the checks take long: a disk is slow, or the database is large")
        finally:
            free.release()
        chore.fail()
        last = chore.last
        if last is None or last.result is None:
            return problem_answer(problems.internal())
        return json_answer({"at": last.ended_at, "seconds": last.seconds, **last.result})

    return views
