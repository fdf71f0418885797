"""Every look at the code that does not run it; all of them run, then the failures are named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CODE = ["daas_hub", "tests", "scripts/lib", "jupyterhub_config.py"]
STEPS: dict[str, list[str]] = {
    "ruff check": ["ruff", "check"],
    "ruff format": ["ruff", "format", "--check"],
    "mypy": ["mypy"],
    "layers": ["lint-imports", "--no-cache"],
    "codespell": ["codespell", "daas_hub", "docs", "tests", "scripts", "changelog.d", "README.md"],
    "sizes": [sys.executable, str(CLONE / "scripts" / "lib" / "sizes.py")],
}


def main(names: list[str]) -> int:
    """Run the named steps, or all. Returns 1 where one failed."""
    unknown = set(names) - set(STEPS)
    if unknown:
        print(f"No such check: {', '.join(sorted(unknown))}. There are: {', '.join(STEPS)}.", file=sys.stderr)
        return 2
    os.chdir(CLONE)
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    failed = []
    for name in names or STEPS:
        command, *arguments = STEPS[name]
        if command.startswith("ruff"):
            arguments = [*arguments, *(p for p in CODE if Path(p).exists())]
        program = command if command.startswith("/") else str(BIN / command)
        began = time.monotonic()
        print(f"── {name}", flush=True)
        if subprocess.run([program, *arguments], env=environment, check=False).returncode:
            failed.append(name)
        print(f"   {time.monotonic() - began:.1f} s", flush=True)
    print(f"Checks failed: {', '.join(failed)}" if failed else "All checks passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
