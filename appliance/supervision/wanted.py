"""Whether systemd is to start one more API process: `python -m appliance.supervision.wanted N`.

The units of the target are always the same, and how many API processes there are is a setting, by
default by the cores. A unit asks this first, and is passed over where the answer is 1. The process
of number 0 is a unit of its own, which is always started.
"""

import os
import sys

from appliance import config
from appliance.errors import ConfigError
from appliance.machine import allowance


def main(number: str) -> int:
    """Return the status: 0 where the process of this number is wanted, else 1."""
    try:
        settings = allowance.fit(config.load(os.environ))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201  # the journal has it
        return 1
    return 0 if int(number) < settings.api_processes else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
