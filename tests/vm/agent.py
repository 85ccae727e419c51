"""Runs commands inside the guest for who drives it: a JSON line in, a JSON line out.

It talks over a serial port that QEMU gives the guest, so it works without any network.
"""

import json
import subprocess
from pathlib import Path

PORT = Path("/dev/virtio-ports/agent")


def main() -> None:
    """Answer one request after another, for ever."""
    with PORT.open("r+b", buffering=0) as port:
        port.write(b'{"hello": true}\n')
        pending = b""
        while True:
            pending += port.read(65536) or b""
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                port.write(json.dumps(answer(json.loads(line))).encode() + b"\n")


def answer(request: dict) -> dict:
    """Run the request's command; what it printed on both outputs, and how it ended."""
    try:
        done = subprocess.run(
            request["command"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=request["timeout"],
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"id": request["id"], "status": 124, "output": "timed out"}
    except OSError as error:
        return {"id": request["id"], "status": 127, "output": str(error)}
    output = done.stdout.decode(errors="replace")
    return {"id": request["id"], "status": done.returncode, "output": output}


if __name__ == "__main__":
    main()
