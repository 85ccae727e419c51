"""Programs as forks: each is what it would be if it had been started anew.

A process of its own plays supervisord, with the real one's options: it forks, and the child calls
`execve` as supervisord's does.
"""

import ast
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tools.module_table import modules

#: Modules whose functions give each process numbers or files of its own.
OF_ONE_PROCESS = {"secrets", "random", "uuid", "tempfile"}

#: Forks a program whose `main` is the code in its first argument, and says how it ended. Like
#: supervisord, it handles signals, holds descriptors, and has work to do at its own end.
SUPERVISORD = """
import atexit, os, signal, sys, tempfile, threading
from supervisor.options import ServerOptions
from appliance.supervision import forked_programs
from appliance.supervision.forked_programs import ForkedPrograms

def main():
    exec(sys.argv[2], globals())

options = ServerOptions()
programs = ForkedPrograms(lambda: None, main)
programs.load()
programs.take_over(options)
supervisord = os.getpid()  # its child can have ended before it knows the child's id

def handle(*_):
    if os.getpid() != supervisord:
        print("supervisord's handler", flush=True)

for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
    signal.signal(number, handle)
atexit.register(print, "supervisord's end")
own = tempfile.TemporaryFile()
handed_on = os.open(os.devnull, os.O_RDONLY)
os.set_inheritable(handed_on, True)
os.environ["ONLY_OF_SUPERVISORD"] = "1"
command = os.environ.get("COMMAND", str(forked_programs._COMMAND))
child = os.fork()
if not child:
    environment = {"PATH": os.environ["PATH"], "NAME": "worker_0", "HANDED_ON": str(handed_on)}
    options.execve(command, ["appliance", "worker", sys.argv[1]], environment)
_, status = os.waitpid(child, 0)
atexit.unregister(print)
print(f"ended: {os.waitstatus_to_exitcode(status)}")
"""


@pytest.fixture
def fork(monkeypatch):
    """Run code as a program; its output, what it wrote to its log, and its status."""

    def fork(code: str) -> tuple[str, str, int]:
        done = subprocess.run(
            [sys.executable, "-c", SUPERVISORD, code],
            input="from supervisord\n", capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        said, _, status = done.stdout.rpartition("ended: ")
        return said, done.stderr, int(status)

    return fork


def test_a_fork_has_the_arguments_the_environment_and_the_input_of_its_program(fork):
    said, errors, status = fork(
        "import json; print(json.dumps([sys.argv[:2], sorted(os.environ), sys.stdin.read()]))"
    )
    assert json.loads(said) == [
        ["appliance", "worker"],
        ["HANDED_ON", "NAME", "PATH"],
        "from supervisord\n",
    ]
    assert (errors, status) == ("", 0)


def test_a_fork_is_named_after_its_program(fork):
    said, _, _ = fork("print(open('/proc/self/cmdline').read())")
    assert said.startswith("appliance worker ")


def test_a_fork_keeps_the_descriptors_that_are_handed_on_and_no_other(fork):
    said, _, _ = fork(
        "listed = {int(name) for name in os.listdir('/proc/self/fd')}\n"
        "print(sorted(each for each in listed if os.path.exists(f'/proc/self/fd/{each}')))\n"
        "print(os.environ['HANDED_ON'])"
    )
    kept, handed_on = said.splitlines()
    assert json.loads(kept) == [0, 1, 2, int(handed_on)]


def test_a_fork_is_ended_by_a_signal_that_it_does_not_handle(fork):
    said, _, status = fork("os.kill(os.getpid(), signal.SIGTERM); signal.pause()")
    assert (said, status) == ("", -signal.SIGTERM)


def test_a_fork_is_interrupted_like_any_program(fork):
    said, _, status = fork("os.kill(os.getpid(), signal.SIGINT); signal.pause()")
    assert (said, status) == ("", 130)


@pytest.mark.parametrize(
    ("code", "status", "errors"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(78)", 78, ""),
        ("sys.exit('no disk')", 1, "no disk\n"),
    ],
)
def test_a_fork_ends_with_the_status_of_its_program(fork, code, status, errors):
    assert fork(code) == ("", errors, status)


def test_a_fork_reports_an_error_that_nothing_caught(fork):
    said, errors, status = fork("def deep():\n    raise ValueError('a fault')\ndeep()")
    assert errors.startswith("Traceback")
    assert errors.endswith("ValueError: a fault\n")
    assert (said, status) == ("", 1)


def test_a_fork_waits_for_its_threads_and_does_its_own_work_at_the_end_only(fork):
    said, _, status = fork(
        "import time\n"
        "atexit.register(print, 'at the end')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
        "sys.exit(5)"
    )
    assert (said, status) == ("thread\nat the end\n", 5)


def test_a_command_of_others_is_run_as_ever(fork, monkeypatch):
    monkeypatch.setenv("COMMAND", "/bin/echo")
    assert fork("one word") == ("worker one word\n", "", 0)


def at_import(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call that is made where a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
            for part in [*node.args.defaults, *getattr(node, "decorator_list", [])]:
                yield from at_import(ast.Expr(part))
            continue
        if isinstance(node, ast.Call):
            yield node
        yield from at_import(node)


def test_no_module_draws_a_number_at_its_import_that_forks_would_share():
    """Ids, nonces and the like are drawn by objects, after the fork."""
    for name, path in modules():
        for call in at_import(ast.parse(path.read_text())):
            called = ast.unparse(call.func)
            assert called.partition(".")[0] not in OF_ONE_PROCESS, f"{name}:{call.lineno}"
            assert called not in ("os.getpid", "os.urandom", "threading.get_ident"), name
