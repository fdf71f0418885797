"""The helper for SLURM as a file: how small it is, what it imports, how it is installed; and what its answers mean."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daas_hub.cli import app
from daas_hub.clients import as_user, daas_runas
from daas_hub.clients.as_user import AsUser
from daas_hub.core.errors import AccountRefused, BackendUnavailable, StartFailed
from daas_hub.core.models import Account

SOURCE = Path(daas_runas.__file__).read_text(encoding="utf-8")
ADA = Account("a", "ada", 20001, 30001, (), "/home/ada", "/bin/sh", "test", datetime(2026, 1, 1, tzinfo=UTC))


def test_it_stays_one_page() -> None:
    """It is read as a whole before it is installed; docstrings, comments and blank lines are for the reader."""
    tree, text = ast.parse(SOURCE), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            text |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(SOURCE.splitlines(), 1)
    code = [line for n, line in lines if n not in text and line.strip() and not line.strip().startswith("#")]
    assert 50 < len(code) < 100


def test_it_needs_nothing_but_python() -> None:
    nodes = list(ast.walk(ast.parse(SOURCE)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == set()
    # 3.9 is the oldest system Python that it is said to run with.
    ast.parse(SOURCE, feature_version=(3, 9))


def test_what_is_installed_is_the_file() -> None:
    said = CliRunner().invoke(app, ["slurm", "helper"])
    assert (said.exit_code, said.stdout) == (0, SOURCE)
    assert SOURCE.startswith("#!/usr/bin/python3 -IS\n")
    other = CliRunner().invoke(app, ["slurm", "helper", "--python", "/opt/py/bin/python3", "--settings", "/etc/x.json"])
    changed = [pair for pair in zip(SOURCE.splitlines(), other.stdout.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [after for _, after in changed] == ["#!/opt/py/bin/python3 -IS", 'SETTINGS = "/etc/x.json"']


@pytest.mark.parametrize("words", [["--settings", 'x"; import os'], ["--settings", "x"], ["--python", "/a\n/b"]])
def test_a_path_that_is_none_is_refused(words: list[str]) -> None:
    said = CliRunner().invoke(app, ["slurm", "helper", *words])
    assert (said.exit_code, said.stdout) == (1, "")


def test_the_rule_of_sudoers() -> None:
    said = CliRunner().invoke(app, ["slurm", "sudoers", "--user", "hub"])
    lines = "Defaults:hub !fqdn\nhub ALL=(root) NOPASSWD: /usr/local/sbin/daas-runas"
    assert said.stdout == f"{lines}\n"
    page = Path(__file__).resolve().parents[2] / "docs/explanation/daas-runas.md"
    assert f"\n{lines}\n" in page.read_text(encoding="utf-8")
    for words in (["--user", "hub ALL"], ["--user", "ALL, hub"], ["--user", "%hub"], ["--user", "hub", "--path", "x"]):
        assert CliRunner().invoke(app, ["slurm", "sudoers", *words]).exit_code == 1


def test_the_settings_of_the_page() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/explanation/daas-runas.md"
    found = [json.loads(line) for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    assert [sorted(one) for one in found] == [["denied", "min_uid", "programs"]]
    assert set(found[0]["programs"]) == {"sbatch", "scancel"}


def sbatch(words: str) -> str:
    return f"sbatch: error: {words}"


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (1, "Batch job submission failed: Unable to contact slurm controller (connect failure)", "refused"),
        (1, "Munge encode failed: Failed to access \"/run/munge\"", "munge"),
        (1, "x\nsbatch: fatal: Could not establish a configuration source", "no_configuration"),
        (1, "Batch job submission failed: Socket timed out on send/recv operation", "unsure"),
        (1, "Batch job submission failed: Zero Bytes were transmitted or received", "unsure"),
        (1, "Slurm temporarily unable to accept job, sleeping and retrying", "busy"),
        (-9, "", "unsure"),
        (0, "", "unsure"),
    ],
)  # fmt: skip
def test_no_answer_is_not_a_refusal(status: int, said: str, reason: str) -> None:
    error = as_user.refused_submission(status, sbatch(said))
    assert (type(error), error.reason) == (BackendUnavailable, reason)


@pytest.mark.parametrize(
    "words",
    [
        "Batch job submission failed: Invalid account or account/partition combination specified",
        "Batch job submission failed: Requested node configuration is not available",
        "This does not look like a batch script.  The first",
    ],
)
def test_a_refusal_has_sbatchs_words(words: str) -> None:
    error = as_user.refused_submission(1, sbatch(words))
    assert isinstance(error, StartFailed)
    assert (error.permanent, error.message) == (True, f"SLURM refuses the job: {words}")


@pytest.mark.parametrize(
    ("kind", "wanted", "reason"),
    [
        ("account", AccountRefused, "account_refused"),
        ("home", StartFailed, "home"),
        ("request", StartFailed, "request"),
        ("unsure", BackendUnavailable, "unsure"),
        ("exists", BackendUnavailable, "unsure"),
        ("helper", BackendUnavailable, "helper"),
        ("what a later one says", BackendUnavailable, "helper"),
    ],
)
async def test_kinds(tmp_path: Path, kind: str, wanted: type[Exception], reason: str) -> None:
    answer = json.dumps({"kind": kind, "error": "ada is uid 1 on this host, not uid 2"})
    helper = AsUser(["/bin/sh", "-c", f"cat >/dev/null; echo '{answer}'; exit 1"])
    with pytest.raises(wanted) as caught:
        await helper.probe(ADA, within_s=10)
    assert caught.value.reason == reason  # type: ignore[attr-defined]
    assert "ada is uid 1 on this host, not uid 2" in caught.value.log_message  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["/no/such/sudo"], "No such file"),
        (["/bin/sh", "-c", "echo sudo: a password is required >&2; exit 1"], "a password is required"),
        (["/bin/sh", "-c", "echo 7"], "ends with 0 and says nothing"),
        (["/bin/sh", "-c", "exec 0<&-; exit 3"], "ends with 3 and says nothing"),
    ],
)
async def test_a_helper_that_does_not_answer(argv: list[str], said: str) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        await AsUser(argv).submit(ADA, hub_id="h", launch_id="a", script="x" * 500_000, files={}, within_s=10)
    assert caught.value.reason == "helper"
    assert said in caught.value.log_message


async def test_what_is_too_large_is_not_sent(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    helper = AsUser(["/bin/sh", "-c", f"touch {marker}"])
    with pytest.raises(StartFailed, match="too large"):
        await helper.submit(ADA, hub_id="h", launch_id="a", script="x" * daas_runas.MAX_INPUT, files={}, within_s=10)
    assert not marker.exists()


def test_without_root_it_does_nothing() -> None:
    own = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    # The file is handed in: somebody else may not read it where it lies.
    argv = [*own, "/usr/bin/python3", "-I", "-S", "-", "probe", "root", "0"]
    done = subprocess.run(argv, input=SOURCE, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["kind"]) == (1, "helper")
