"""What a fresh JupyterLab is told about news, and whose word goes before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyterlab_server.settings_utils import get_settings

from daas_hub.clients import home_tasks

NOTIFICATION = "@jupyterlab/apputils-extension:notification"


def begun(tmp_path: Path) -> Path:
    """The file that a start writes for Lab."""
    (tmp_path / "home").mkdir()
    task = {"home": str(tmp_path / "home"), "own": str(tmp_path), "terminal": ["/bin/sh"], "full_home_bytes": 0}
    home_tasks.carry_out(task)
    return tmp_path / "config/labconfig/default_setting_overrides.json"


def lab_says(tmp_path: Path, config_path: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """The default that JupyterLab itself reads, with a schema of its plugin."""
    schemas = tmp_path / "schemas/@jupyterlab/apputils-extension"
    schemas.mkdir(parents=True)
    text = {"type": "object", "properties": {"fetchNews": {"type": "string", "default": "none"}}}
    (schemas / "notification.json").write_text(json.dumps(text))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", config_path)
    monkeypatch.setenv("JUPYTER_NO_CONFIG", "")
    found, _ = get_settings(str(tmp_path), str(tmp_path / "schemas"), str(tmp_path / "settings"), NOTIFICATION)
    return found["schema"]["properties"]["fetchNews"]["default"]


def test_lab_asks_nobody_about_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert begun(tmp_path).exists()
    assert lab_says(tmp_path, "", monkeypatch) == "false"


def test_what_stands_in_her_home_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path)
    hers = tmp_path / "home/.jupyter/labconfig"
    hers.mkdir(parents=True)
    (hers / "default_setting_overrides.json").write_text(json.dumps({NOTIFICATION: {"fetchNews": "true"}}))
    assert lab_says(tmp_path, str(tmp_path / "home/.jupyter"), monkeypatch) == "true"


def test_an_administrators_file_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "default_setting_overrides.json"
    theirs.write_text("{}")
    monkeypatch.setattr(home_tasks, "LAB_DEFAULTS", (theirs,))
    assert not begun(tmp_path).exists()
