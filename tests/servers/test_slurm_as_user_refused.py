"""What daas-runas refuses to the hub that calls it by sudo: accounts, words, input, homes, settings. No job is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daas_hub.clients.daas_runas import MAX_INPUT
from tests.servers.slurm.daemons import PATH
from tests.servers.slurm.rig import LAB_GID, PEOPLE, Slurm
from tests.servers.slurm_helper import HUB, MIN_UID, REQUEST, Helper

pytestmark = [pytest.mark.needs("root", "slurm"), pytest.mark.timeout(120)]
ADA, BOB = str(PEOPLE["ada"]), str(PEOPLE["bob"])


@pytest.fixture
def helper(slurm: Slurm) -> Iterator[Helper]:
    """No test of this file makes a folder of a launch, whatever it asks for."""
    helper = Helper(slurm)
    daas = slurm.homes / "ada" / ".daas"
    shutil.rmtree(daas, ignore_errors=True)
    yield helper
    assert not daas.is_dir() or list(daas.iterdir()) == []


@pytest.fixture
def odd_people(slurm: Slurm) -> None:
    """root's group as the first one, and as one of the others; a home that is root's and open to all; a second name."""
    home = slurm.root / "open"
    if home.exists():
        return
    home.mkdir()
    home.chmod(0o777)
    slurm.add_person("odd0", 20195, gid=0, account="")
    slurm.add_person("odd1", 20196, account="")
    slurm.add_group("alsoroot", 0, "odd1")
    with (slurm.world.etc / "passwd").open("a") as passwd:
        passwd.write(f"odd2:x:20197:{LAB_GID}::{home}:/bin/sh\n")
        passwd.write(f"eva:x:{PEOPLE['eve']}:{LAB_GID}::{home}:/bin/sh\n")


@pytest.mark.usefixtures("odd_people")
@pytest.mark.parametrize(
    ("name", "uid", "said"),
    [
        pytest.param("root", "0", "0 is root's", id="root"),
        pytest.param("ada", "0", f"is uid {ADA} on this host, not uid 0", id="her name, root's uid"),
        pytest.param("root", ADA, f"is uid 0 on this host, not uid {ADA}", id="root's name, her uid"),
        pytest.param("ada", BOB, f"ada is uid {ADA} on this host, not uid {BOB}", id="somebody else's uid"),
        pytest.param("daemon", "1", f"none below {MIN_UID}", id="below min_uid"),
        pytest.param("eve", str(PEOPLE["eve"]), "eve is denied by", id="denied"),
        pytest.param("eva", str(PEOPLE["eve"]), "eva is denied by", id="denied by another name"),
        pytest.param("odd0", "20195", "0 is root's", id="root's group first"),
        pytest.param("odd1", "20196", "0 is root's", id="root's group too"),
    ],
)
def test_accounts(helper: Helper, name: str, uid: str, said: str) -> None:
    for verb in ("submit", "cancel", "probe", "hand"):
        kind, text = helper.refused(verb, name, uid)
        assert (kind, said in text) == ("account", True), text


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(words, id=" ".join(words).encode("unicode_escape").decode() or "none")
        for words in (
            [], ["submit"], ["submit", "ada"], ["submit", "ada", ADA, "more"], ["submit", "ada", ADA, "--hold"],
            ["shell", "ada", ADA], ["", "ada", ADA], ["--help"], ["submit", "--help", ADA], ["submit", "-u", ADA],
            ["submit", "../ada", ADA], ["submit", "ada ", ADA], ["submit", "ada\n", ADA], ["submit\nada", ADA],
            ["submit", "", ADA], ["submit", "a" * 65, ADA], ["submit", "ada", f"0{ADA}"], ["submit", "ada", f"+{ADA}"],
            ["submit", "ada", f"{ADA}\n"], ["submit", "ada", "-1"], ["submit", "ada", "２０００１"],
            ["submit", "ada", "0x4e21"],
        )
    ],
)  # fmt: skip
def test_words(helper: Helper, argv: list[str]) -> None:
    assert helper.refused(*argv) == ("helper", "as root: VERB NAME UID")


@pytest.mark.parametrize("name", ["nosuch", "ADA", "20001"])
def test_a_name_that_nobody_has_here(helper: Helper, name: str) -> None:
    kind, text = helper.refused("submit", name, ADA)
    assert (kind, name in text) == ("helper", True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        *(({key: value}, key) for key in ("hub", "launch") for value in
          ("", "-x", "--uid=0", "..", "a/b", "a:b", "A", "a b", "a\n", "a\0", "é", "a" * 64, 1, None, ["a"])),
        *(({"job": value}, "job") for value in ("", "-1", "--me", "01", "1 2", "1_2", "1.0", "x", "1" * 11, 1, None)),
        *(({"within_s": value}, "within_s") for value in ("0", "300", "1e9", "-1", "1.5", 30)),
        *(({"script": value}, "script") for value in ("a\0b", None, ["a"])),
        *(({"files": {value: ""}}, repr(value)) for value in
          ("", ".", "..", "../x", "a/b", "/etc/x", ".hidden", "-x", "log", "a\n", "a\0", "é", "a" * 65)),
        *(({"files": {"a": value}}, "a") for value in (1, None, {"b": ""}, ["b"])),
        *(({"files": value}, "") for value in ([], "a", None, 1)),
        ({"more": "1"}, "more"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)  # fmt: skip
def test_input(helper: Helper, changes: dict[str, Any], named: str) -> None:
    for verb in ("submit", "cancel", "hand"):
        kind, text = helper.refused(verb, "ada", ADA, given={**REQUEST, **changes})
        assert kind == "request"
        assert named in text or "expected string" in text


@pytest.mark.parametrize("missing", list(REQUEST))
def test_input_without_a_part(helper: Helper, missing: str) -> None:
    given = {key: value for key, value in REQUEST.items() if key != missing}
    kind, text = helper.refused("submit", "ada", ADA, given=given)
    assert (kind, missing in text) == ("request", True)


@pytest.mark.parametrize("given", ["", "{", "[]", "null", "7", '"text"', "[" * 100_000, '{"hub": "a"} x', "\x00"])
def test_input_that_is_no_request(helper: Helper, given: str) -> None:
    assert helper.refused("submit", "ada", ADA, given=given)[0] == "request"


def test_input_that_is_too_large(helper: Helper) -> None:
    most = MAX_INPUT - len(json.dumps(REQUEST))
    assert helper.refused("submit", "ada", ADA, given={**REQUEST, "script": REQUEST["script"] + "x" * (most + 1)}) == (
        "request", "standard input is too long"
    )  # fmt: skip
    # A text that would be right is not cut and then taken, either.
    assert helper.refused("submit", "ada", ADA, given=json.dumps(REQUEST) + " " * MAX_INPUT)[0] == "request"


@pytest.fixture
def target(slurm: Slurm) -> Iterator[Path]:
    """A folder that is root's, and what stands in it."""
    target = slurm.root / "target"
    target.mkdir(mode=0o777)
    target.chmod(0o777)
    yield target
    assert list(target.iterdir()) == []
    shutil.rmtree(target)


def somebody_elses(daas: Path, target: Path) -> None:
    daas.mkdir(mode=0o700)
    os.chown(daas, PEOPLE["bob"], LAB_GID)


def open_to_others(daas: Path, target: Path) -> None:
    daas.mkdir()
    os.chown(daas, PEOPLE["ada"], LAB_GID)
    daas.chmod(0o770)


HOMES: dict[str, Callable[[Path, Path], None]] = {
    "a link to a folder": lambda daas, target: daas.symlink_to(target),
    "a link to nothing": lambda daas, target: daas.symlink_to(target / "nothing"),
    "a file": lambda daas, target: daas.touch(),
    "somebody else's": somebody_elses,
    "others may write": open_to_others,
}


@pytest.mark.parametrize("way", list(HOMES))
def test_a_folder_that_is_not_hers_alone(slurm: Slurm, helper: Helper, target: Path, way: str) -> None:
    daas = slurm.homes / "ada" / ".daas"
    HOMES[way](daas, target)
    try:
        kind, text = helper.refused("submit", "ada", ADA, given={**REQUEST, "files": {"a": "b"}})
        assert (kind, ".daas" in text) == ("home", True), text
    finally:
        if daas.is_dir() and not daas.is_symlink():
            daas.rmdir()
        else:
            daas.unlink()


@pytest.mark.usefixtures("odd_people")
def test_a_home_that_is_somebody_elses(slurm: Slurm, helper: Helper) -> None:
    kind, text = helper.refused("submit", "odd2", "20197")
    assert (kind, f"{slurm.root}/open is uid 0's" in text) == ("home", True), text
    assert list((slurm.root / "open").iterdir()) == []


def hers(helper: Helper) -> None:
    os.chown(helper.settings, PEOPLE["ada"], 0)


def folder_of_hers(helper: Helper) -> None:
    os.chown(helper.settings.parent, PEOPLE["ada"], 0)


def a_link(helper: Helper) -> None:
    helper.settings.rename(helper.settings.with_suffix(".other"))
    helper.settings.symlink_to(helper.settings.with_suffix(".other"))


SETTINGS: dict[str, Callable[[Helper], object]] = {
    "others may write": lambda helper: helper.settings.chmod(0o646),
    "the group may write": lambda helper: helper.settings.chmod(0o664),
    "others may write into the folder": lambda helper: helper.settings.parent.chmod(0o757),
    "the group may write into the folder": lambda helper: helper.settings.parent.chmod(0o775),
    "hers": hers,
    "the folder is hers": folder_of_hers,
    "a link": a_link,
    "missing": lambda helper: helper.settings.unlink(),
    "no JSON": lambda helper: helper.settings.write_text("{"),
    "empty": lambda helper: helper.settings.write_text("{}"),
    "no number": lambda helper: helper.allow(min_uid="many"),
    "denied is a text": lambda helper: helper.allow(denied="eve"),
    "a program on the PATH": lambda helper: helper.allow(programs={"sbatch": "sbatch", "scancel": "/usr/bin/scancel"}),
    "a path that is not absolute": lambda helper: helper.allow(
        programs={"sbatch": "usr/bin/sbatch", "scancel": "/usr/bin/scancel"}
    ),
    "no such program": lambda helper: helper.allow(programs={"sbatch": "/no/sbatch", "scancel": "/usr/bin/scancel"}),
    "one program only": lambda helper: helper.allow(programs={"sbatch": "/usr/bin/sbatch"}),
}


@pytest.mark.parametrize("way", list(SETTINGS))
def test_settings_that_are_not_roots_word(helper: Helper, way: str) -> None:
    SETTINGS[way](helper)
    try:
        assert helper.refused("submit", "ada", ADA)[0] == "helper"
    finally:
        helper.settings.with_suffix(".other").unlink(missing_ok=True)
        helper.settings.unlink(missing_ok=True)
        helper.settings.parent.chmod(0o755)
        os.chown(helper.settings.parent, 0, 0)
        helper.allow()


def test_who_may_call_it(slurm: Slurm, helper: Helper) -> None:
    """sudo lets nobody else, and the hub nothing else; without sudo it does nothing."""
    for person in ("ada", "bob"):
        done = helper.call("probe", person, str(PEOPLE[person]), by=person)
        assert (done.returncode, done.stdout) == (1, "")
        assert "password is required" in done.stderr
    for words in (["-u", "ada", str(helper.path)], ["/usr/bin/id"], ["/usr/bin/python3", str(helper.path)]):
        done = slurm.ask("sudo", "-n", *words, user=HUB)
        assert "password is required" in done.stderr, words
    done = slurm.ask(str(helper.path), "probe", "ada", ADA, user="ada")
    assert json.loads(done.stdout) == {"kind": "helper", "error": "as root: VERB NAME UID"}


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("--bounding-set=-setuid", "Operation not permitted"),
        ("--bounding-set=-setgid", "Operation not permitted"),
        ("--securebits=+no_setuid_fixup", "root's rights could be taken back"),
    ],
)
def test_nothing_runs_where_a_step_has_no_effect(slurm: Slurm, helper: Helper, lacking: str, said: str) -> None:
    words = [*slurm.world.login(), "setpriv", lacking, str(helper.path), "submit", "ada", ADA]
    done = subprocess.run(
        words, input=json.dumps(REQUEST), capture_output=True, text=True, env={"PATH": PATH}, cwd="/", timeout=60
    )
    answer = json.loads(done.stdout)
    assert (answer["kind"], said in answer["error"]) == ("helper", True), answer
