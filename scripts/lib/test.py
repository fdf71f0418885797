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
BUILD = [sys.executable, "-m", "tests.servers.kubernetes.build"]
KEYCLOAK = [sys.executable, "-m", "tests.servers.keycloak"]


@contextmanager
def cluster_built_meanwhile(environment: dict[str, str]) -> Iterator[None]:
    """Build the programs of the tests' cluster while other tests run; tests that need them wait for it."""
    if os.geteuid() != 0 or os.environ.get("DAAS_TEST_KUBECONFIG"):
        yield
        return
    with _meanwhile(BUILD, environment):
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


def main(arguments: list[str]) -> int:
    """Returns pytest's exit status, and 1 where no test ran at all."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    if "--long" in arguments:
        arguments = [a for a in arguments if a != "--long"]
        environment["DAAS_TEST_LONG"] = "1"
    # Tests run this clone's code, also where the environment has a copy of it.
    environment["PYTHONPATH"] = str(CLONE)
    if os.geteuid() != 0:
        print("Not root: tests that start servers as other accounts are left out (listed at the end).", flush=True)
    with cluster_built_meanwhile(environment), _meanwhile(KEYCLOAK, environment):
        status = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=CLONE, env=environment, check=False)
    if status.returncode == NO_TESTS_RAN:
        print("No test ran: that is a failure.", file=sys.stderr)
        return 1
    return status.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
