"""The chart as these tests install it: the real helm, against whatever cluster the kubeconfig names."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from .pods import DENIED_GID

CHART = Path(__file__).resolve().parents[2] / "helm" / "daas-hub"
RELEASE_NAMESPACE, RELEASE = "hub-home", "daas"
HUB = f"{RELEASE_NAMESPACE}:{RELEASE}-hub"
"""The hub's service account."""
USERS = "daas-users"
NFS, HOST, DEEP = ("nas.example.org", "/export/home"), "/srv/home", "/srv/projects"

VALUES: dict[str, Any] = {
    "users": {"imagePullSecrets": ["registry"], "ids": {"deniedGids": [DENIED_GID]}},
    "volumes": {
        "roots": [
            {"nfs": {"server": NFS[0], "path": NFS[1]}},
            {"hostPath": {"path": HOST}},
            {"hostPath": {"path": DEEP}, "depth": 2},
        ],
        "mountOptions": ["nfsvers=4.2", "hard"],
    },
}


class Helm:
    """The program, with one kubeconfig and folders of its own."""

    def __init__(self, program: Path, folder: Path, kubeconfig: Path | None = None) -> None:
        self.program, self.folder = program, folder
        self._environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
        if kubeconfig is not None:
            self._environment["KUBECONFIG"] = str(kubeconfig)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What it says, whether it succeeds or not."""
        argv = [str(self.program), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=self._environment, timeout=60)

    def must(self, *words: str) -> str:
        """What it prints; AssertionError with its words where it fails."""
        done = self.run(*words)
        assert done.returncode == 0, f"helm {' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout

    def values(self, given: dict[str, Any], name: str = "values") -> str:
        """The words that name a file with these values."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(given))
        return f"--values={path}"

    def install(self, namespace: str, values: dict[str, Any]) -> None:
        """Install the chart, or upgrade to it."""
        named = self.values(values, namespace)
        self.must("upgrade", "--install", RELEASE, str(CHART), "--namespace", namespace, "--create-namespace", named)
