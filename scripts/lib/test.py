"""Run pytest with this environment's programs first on PATH. An empty run is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
NO_TESTS_RAN = 5


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
    status = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=CLONE, env=environment, check=False)
    if status.returncode == NO_TESTS_RAN:
        print("No test ran: that is a failure.", file=sys.stderr)
        return 1
    return status.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
