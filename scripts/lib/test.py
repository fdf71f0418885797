"""Run pytest with this environment's programs first on PATH. An empty run is a failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
NO_TESTS_RAN = 5
DEFAULT_WORKERS = "auto"
"""Of ``DAAS_TEST_WORKERS``."""
MOST_WORKERS = 6
HARMLESS = {"-q", "-v", "-vv", "-ra", "-x", "--durations", "--junitxml", "--tb", "--color", "--maxfail"}
"""Words of pytest that say nothing of which tests run, nor need a terminal or one process."""
BUILD = [sys.executable, "-m", "tests.servers.kubernetes.build"]
IMAGES = [sys.executable, "-m", "tests.servers.kubernetes.images"]
KEYCLOAK = [sys.executable, "-m", "tests.servers.keycloak"]
SLURM = [sys.executable, "-m", "tests.servers.slurm.debian"]


@contextmanager
def cluster_built_meanwhile(environment: dict[str, str]) -> Iterator[None]:
    """Build the programs and images of the tests' cluster while other tests run; tests that need them wait for it."""
    if os.geteuid() != 0 or os.environ.get("DAAS_TEST_KUBECONFIG"):
        yield
        return
    with _meanwhile(BUILD, environment), _meanwhile(IMAGES, environment):
        yield


@contextmanager
def _meanwhile(argv: list[str], environment: dict[str, str]) -> Iterator[None]:
    # Its words would tear the tests' apart; whoever waits for a build that fails tries again and says why.
    quiet = subprocess.DEVNULL
    build = subprocess.Popen(
        argv, cwd=CLONE, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        yield
    finally:
        if build.poll() is None:
            # No test needed it. The compiler's own cache keeps what is done.
            os.killpg(build.pid, signal.SIGTERM)
            build.wait()


def workers(arguments: list[str], given: str, cores: int) -> int:
    """How many processes run the tests, 0 for pytest's own alone: ``given``; ``auto``: by the cores for what is large.

    Large is the whole suite, and each of its folders: anything else is over before workers would be ready. Raises
    ValueError where ``given`` is neither.
    """
    given = given or DEFAULT_WORKERS
    if given != "auto":
        if not given.isdecimal():
            raise ValueError(f"DAAS_TEST_WORKERS is 'auto' or a number of processes, 0 for none, and not {given!r}.")
        return int(given)
    if any(not (CLONE / word).is_dir() and word.partition("=")[0] not in HARMLESS for word in arguments):
        return 0
    # Tests wait more than they compute; each worker more is a hub, a browser and a directory more.
    return min(max(2, cores - 1), MOST_WORKERS)


def run(argv: list[str], environment: dict[str, str]) -> int:
    """Run a program and return its exit status. Who interrupts this process interrupts that one, which cleans up."""
    with subprocess.Popen(argv, cwd=CLONE, env=environment) as process:

        def tell(number: int, _frame: object) -> None:
            if number == signal.SIGTERM or not _foreground():
                process.send_signal(number)

        before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _foreground() -> bool:
    """Whether a terminal's Ctrl-C reaches our children without us."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def main(arguments: list[str]) -> int:
    """Returns pytest's exit status, and 1 where no test ran at all."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    if "--long" in arguments:
        arguments = [a for a in arguments if a != "--long"]
        environment["DAAS_TEST_LONG"] = "1"
    # Tests run this clone's code, also where the environment has a copy of it.
    environment["PYTHONPATH"] = str(CLONE)
    # Each hub and service of a test would compile all of it anew: a run starts hundreds.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if os.geteuid() != 0:
        print("Not root: tests that start servers as other accounts are left out (listed at the end).", flush=True)
    try:
        count = workers(arguments, environment.get("DAAS_TEST_WORKERS", ""), len(os.sched_getaffinity(0)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    many = ["-n", str(count)] if count else []
    with cluster_built_meanwhile(environment), _meanwhile(KEYCLOAK, environment), _meanwhile(SLURM, environment):
        status = run([sys.executable, "-m", "pytest", *many, *arguments], environment)
    if status == NO_TESTS_RAN:
        print("No test ran: that is a failure.", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
