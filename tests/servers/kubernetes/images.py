"""Container images without a registry: built on this machine from Dockerfiles that work anywhere, kept by content.

``debian:bookworm-slim`` is stood in for by an image of that name, made of Debian's own packages. The names that we give
begin with ``localhost/``: nobody may mistake them for published ones, and no program adds anything to them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from daas_hub.demo.setup import cache_root, say
from tests.servers.priority import below_the_tests

BASE = "localhost/debian:bookworm-slim"
BASE_OPTIONS = (
    "--variant=minbase",
    "--include=ca-certificates",
    # As in the published slim image: no manuals, and apt keeps nothing that it downloaded.
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    '--aptopt=Binary::apt::APT::Keep-Downloaded-Packages "false"',
    '--aptopt=Dir::Cache::pkgcache ""',
    '--aptopt=Dir::Cache::srcpkgcache ""',
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
TRUST = ("PIP_CERT", "SSL_CERT_FILE")
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "cat",
    "chmod",
    "chown",
    "echo",
    "grep",
    "id",
    "ls",
    "mkdir",
    "nslookup",
    "rm",
    "sh",
    "sleep",
    "stat",
    "wget",
)
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nscientist:x:20001:20001::/:/bin/sh\n",
    "etc/group": "root:x:0:\nscientist:x:20001:\nstolen:x:31337:scientist\n",
}
"""As an image that a user made may have them: its group file gives a uid of the site a group that she is not in."""
KEEP_VERSIONS = 2
DRAFT = "draft-"
KEEP_S = 14 * 24 * 3600
TINY = Path(__file__).with_name("tiny")
CLONE = Path(__file__).parents[3]
SCRIPT = CLONE / "images/build"
"""By which everybody builds the project's own images."""


class ImageFailed(Exception):
    """Raised when an image cannot be built; the text has the end of the builder's words and names the log."""


@dataclass(frozen=True)
class Image:
    """A built image: its whole name with a tag that is made of its content, and the file to import it from."""

    name: str
    archive: Path


def build(folder: Path, name: str, more: Mapping[str, str] | None = None) -> Image:
    """Build ``folder/Dockerfile`` once for its content. Blocks. ``more``: further files of the context, name → text.

    ``name`` is the image's name without host and tag, for example ``tests/tiny-singleuser``. Raises ImageFailed.
    """
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    files |= {path: text.encode() for path, text in (more or {}).items()}
    digest = hashlib.sha256(_base_key().encode())
    for path, content in sorted(files.items()):
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    key = digest.hexdigest()[:12]
    whole = f"localhost/{name}:{key}"
    image = Image(whole, archive_of(whole))
    with _alone(image.archive):
        if not image.archive.exists():
            _base()
            say(f"Building the image {image.name} (once).")
            _build(folder, files, image)
            _forget_old()
    os.utime(image.archive)
    return image


def archive_of(name: str) -> Path:
    """The file of a built image, by its whole name."""
    return _folder() / f"{name.removeprefix('localhost/').replace('/', '-').replace(':', '-')}.tar"


def _forget_old() -> None:
    """Files of images that nothing asked for in two weeks: their content has changed since. What killed builds left."""
    for old in (*_folder().glob("*.tar"), *_folder().glob(f"{DRAFT}*")):
        if old.stat().st_mtime < time.time() - KEEP_S:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def tiny_singleuser() -> Image:
    """An image whose ``jupyterhub-singleuser`` is the tests' tiny server: ready as soon as its pod runs."""
    from tests.servers.tiny_server import program

    return build(TINY, "tests/tiny-singleuser", {"server.py": program("python3")[2]})


@cache
def _script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def names() -> tuple[str, ...]:
    """The project's own images, in the order of building."""
    found: tuple[str, ...] = _script()["NAMES"]
    return found


@cache
def project(name: str) -> Image:
    """One of the project's own images, built by its script once for what goes into it. Blocks. Raises ImageFailed."""
    base = project("singleuser-base").name if name == "singleuser-datascience" else ""
    digest = hashlib.sha256(f"{_base_key()} {base}".encode() + SCRIPT.read_bytes())
    for path in _script()["sources"](name):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(CLONE)}\0{len(content)}\0".encode() + content)
    key = digest.hexdigest()[:12]
    whole = f"localhost/daas-hub/{name}:{key}"
    image = Image(whole, archive_of(whole))
    with _alone(image.archive):
        if not image.archive.exists():
            _base()
            say(f"Building the image {image.name} (once).")
            log = image.archive.with_suffix(".log")
            ours = ["--builder", "buildah", "--prefix", "localhost/daas-hub", "--tag", key, "--out", str(described())]
            stand_in = ["--base", base] if base else []
            builders = ["--", "--network", "host", "--pull=never"]
            _run(log, sys.executable, str(SCRIPT), name, *ours, *stand_in, *builders, env=_storage_by_env())
            _push(image, log)
            _forget_old()
            _forget_versions(name, log)
    os.utime(image.archive)
    return image


def _forget_versions(name: str, log: Path) -> None:
    """Keep the newest few of an image of the project: each change of the code makes another one of the hub's."""
    files = sorted(_folder().glob(f"daas-hub-{name}-*.tar"), key=lambda file: file.stat().st_mtime)
    for old in files[:-KEEP_VERSIONS]:
        tag = old.stem.rpartition("-")[2]
        for file in (old, old.with_suffix(".log"), *described().glob(f"{name}-{tag}.*")):
            file.unlink(missing_ok=True)
        with contextlib.suppress(ImageFailed):
            # Refused while another image stands on it or is being built on it.
            _buildah(log, "rmi", f"localhost/daas-hub/{name}:{tag}")


def projects() -> None:
    """All of the project's own images. Raises ImageFailed for the first that cannot be built, after all were tried."""
    failed = []
    for name in names():
        try:
            project(name)
        except ImageFailed as error:
            failed.append(error)
    if failed:
        raise failed[0]


def described() -> Path:
    """The folder in which the project's script writes what its images are made of."""
    return _folder() / "described"


def _build(folder: Path, files: Mapping[str, bytes], image: Image) -> None:
    log = image.archive.with_suffix(".log")
    with tempfile.TemporaryDirectory(dir=_folder(), prefix=DRAFT) as place:
        context = Path(place)
        for path, content in files.items():
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            (context / path).write_bytes(content)
            if (folder / path).exists():
                shutil.copymode(folder / path, context / path)
        _buildah(
            log,
            "bud",
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--pull=never",
            "--layers",
            "-t",
            image.name,
            place,
        )
    _push(image, log)


def _push(image: Image, log: Path) -> None:
    draft = image.archive.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    _buildah(log, "push", image.name, f"docker-archive:{draft}:{image.name}")
    draft.rename(image.archive)


def _base_key() -> str:
    """What the base image is made of, as far as we choose it."""
    trust = CERTIFICATES.read_bytes() if CERTIFICATES.exists() else b""
    return hashlib.sha256(f"{BASE_OPTIONS} {os.uname().machine}".encode() + trust).hexdigest()[:12]


def _base() -> None:
    """Make the base image, unless this machine has it."""
    mark = _folder() / "base.key"
    with _alone(mark):
        if mark.exists() and mark.read_text() == _base_key():
            return
        say(f"Making the image {BASE} of Debian's packages (once).")
        log = _folder() / "base.log"
        with tempfile.TemporaryDirectory(dir=_folder(), prefix=DRAFT) as place:
            tar = Path(place) / "base.tar"
            _run(log, "mmdebstrap", *BASE_OPTIONS, "bookworm", str(tar))
            container = _buildah(log, "from", "--pull=never", "scratch").strip()
            try:
                _buildah(log, "add", container, str(tar), "/")
                if CERTIFICATES.exists():
                    # Behind a proxy that this machine trusts, packages are fetched as this machine fetches them.
                    _buildah(log, "add", container, str(CERTIFICATES), str(CERTIFICATES))
                    for variable in TRUST:
                        _buildah(log, "config", "--env", f"{variable}={CERTIFICATES}", container)
                _buildah(log, "config", "--cmd", "/bin/bash", container)
                _buildah(log, "commit", "--format", "docker", container, BASE)
            finally:
                _buildah(log, "rm", container)
        mark.write_text(_base_key())


def toolbox_archive(name: str) -> Path:
    """A tiny image with a shell that sleeps: the pods' sandbox and the helper that makes volumes' folders."""
    archive = _folder() / f"toolbox-{hashlib.sha256(_toolbox_layer() + name.encode()).hexdigest()[:12]}.tar"
    with _alone(archive):
        if not archive.exists():
            draft = archive.with_suffix(".draft")
            _write_archive(draft, name, _toolbox_layer(), ["/bin/sleep", "infinity"])
            draft.rename(archive)
    return archive


def _toolbox_layer() -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("bin", "etc", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        _file(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for name, text in ACCOUNTS.items():
            _file(tar, name, text.encode())
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return layer.getvalue()


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(content)
    tar.addfile(entry, io.BytesIO(content))


def _write_archive(path: Path, name: str, layer: bytes, command: list[str]) -> None:
    """The format of ``docker save``, with one layer."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}.tar"]}]
    with tarfile.open(path, "w") as tar:
        _file(tar, config_name, config)
        _file(tar, f"{digest}.tar", layer)
        _file(tar, "manifest.json", json.dumps(manifest).encode())


def _folder() -> Path:
    folder = cache_root() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _buildah(log: Path, *words: str) -> str:
    storage = _folder() / "storage"
    options = ["--storage-driver", "overlay", "--root", str(storage / "root"), "--runroot", str(storage / "run")]
    return _run(log, "buildah", *options, *words)


def _storage_by_env() -> dict[str, str]:
    """The same storage for programs that run buildah by themselves."""
    storage = _folder() / "storage"
    settings = _folder() / "storage.conf"
    text = f'[storage]\ndriver = "overlay"\ngraphroot = "{storage}/root"\nrunroot = "{storage}/run"\n'
    draft = settings.with_suffix(f".{os.getpid()}")
    draft.write_text(text)
    draft.rename(settings)
    return {"CONTAINERS_STORAGE_CONF": str(settings), "BUILDAH_ISOLATION": "chroot"}


def _run(log: Path, *argv: str, env: Mapping[str, str] | None = None) -> str:
    quiet, env = subprocess.DEVNULL, {**os.environ, **(env or {})}
    with log.open("ab") as out:
        done = subprocess.run(argv, stdin=quiet, stdout=subprocess.PIPE, stderr=out, text=True, check=False, env=env)
        out.write(done.stdout.encode())
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ImageFailed(f"{' '.join(argv)} failed (exit status {done.returncode}). The end of {log}:\n{tail}")
    return done.stdout


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_suffix(".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build the images that are missing; with ``tiny FILE`` the one of the tests' tiny server into a file.

    All of them are built below the priority of the tests that run meanwhile. The file is a Docker archive, as
    ``docker load``, ``ctr images import`` and ``skopeo copy`` take it.
    """
    try:
        match sys.argv[1:]:
            case []:
                below_the_tests()
                tiny_singleuser()
                projects()
            case ["tiny", file]:
                image = tiny_singleuser()
                shutil.copy(image.archive, file)
                print(image.name)
            case _:
                print(main.__doc__, file=sys.stderr)
                return 2
    except ImageFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
