"""The signer for slurmrestd as a file: how small it is, what it imports, how it is installed, what it signs."""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daas_hub.cli import app
from daas_hub.clients import daas_slurm_signer as signer

SOURCE = Path(signer.__file__).read_text(encoding="utf-8")
PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/daas-slurm-signer.md"


def test_it_stays_one_page_that_needs_nothing_but_python() -> None:
    tree, text = ast.parse(SOURCE, feature_version=(3, 9)), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            text |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(SOURCE.splitlines(), 1)
    code = [line for n, line in lines if n not in text and line.strip() and not line.strip().startswith("#")]
    assert 40 < len(code) < 100
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names - set(sys.stdlib_module_names) == set()


def test_what_is_installed_is_the_file() -> None:
    said = CliRunner().invoke(app, ["slurm", "signer"])
    assert (said.exit_code, said.stdout) == (0, SOURCE)
    other = CliRunner().invoke(app, ["slurm", "signer", "--settings", "/etc/x.json"])
    changed = [pair for pair in zip(SOURCE.splitlines(), other.stdout.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [after for _, after in changed] == ['SETTINGS = "/etc/x.json"']


def test_the_page_says_what_is_printed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    said = CliRunner().invoke(app, ["slurm", "sudoers", "--user", "hub", "--signer", "daas-signer"])
    rule = "hub ALL=(daas-signer) NOPASSWD: /usr/local/sbin/daas-slurm-signer"
    assert said.stdout == f"Defaults:hub !fqdn\n{rule}\n"
    assert f"\n{said.stdout}" in page
    (settings,) = [json.loads(line) for line in page.splitlines() if line.startswith("{")]
    assert sorted(settings) == ["denied", "key", "life_s", "min_uid"]
    assert CliRunner().invoke(app, ["slurm", "sudoers", "--user", "hub", "--signer", "ALL, root"]).exit_code == 1


def part(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_what_it_signs() -> None:
    """For this name, from now on, for so long; by the key, and with nothing that JWT does not allow."""
    key = b"k" * 32
    head, claims, signature = signer.signed("ada", key, 60).split(".")
    assert part(head) == {"alg": "HS256", "typ": "JWT"}
    body = part(claims)
    assert (set(body), body["sun"], body["exp"] - body["iat"]) == ({"iat", "exp", "sun"}, "ada", 60)
    mac = hmac.new(key, f"{head}.{claims}".encode(), hashlib.sha256).digest()
    assert signature == base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


@pytest.mark.needs("root")
def test_as_root_it_does_nothing() -> None:
    argv = [sys.executable, "-IS", signer.__file__, "ada", "20001"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"kind": "helper", "error": "as an account of its own, not as root"}
