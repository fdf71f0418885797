"""What `daas-hub adopt` decides: a conflict leaves out what it concerns, and what the ledger knows stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.adopt import Known, plan, unknown_accounts, volume_key
from daas_hub.core.models import Account, AccountGroup, Charge, Memo
from daas_hub.core.recall import Note, OwnedVolume, Seen, SeenLaunch, SeenVolume, owned_note, read_note

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def account(name: str, uid: int) -> Account:
    return Account(
        id=f"id-{name}",
        name=name,
        uid=uid,
        gid=30001,
        groups=(AccountGroup("lab", 30001),),
        home=f"/home/{name}",
        shell="/bin/sh",
        source="ldap",
        fetched_at=NOW,
    )


PLACE = {"version": 1, "kind": "claim"}
ADA, BOB = account("ada", 20001), account("bob", 20002)


def note(of: Account, *, charge: bool = True) -> Note:
    memo = Memo(identity=("ldap:test", f"uuid-{of.name}"), profile="basic", groups=("lab",))
    if charge:
        return Note(of, of.name, memo, Charge(cores=1, memory_bytes=2**30))
    return Note(of, of.name, memo, name="home", place=PLACE)


def launch(of: Account, server: str = "", **values: object) -> SeenLaunch:
    made = SeenLaunch(
        where=f"pod {of.name}-{server}",
        launch_id=f"launch-{of.name}-{server}",
        account_id=of.id,
        server_name=server,
        handle={"pod": f"{of.name}-{server}"},
        started_at=NOW,
        note=note(of),
    )
    return replace(made, **values)


def volume(of: Account, **values: object) -> SeenVolume:
    made = SeenVolume(
        where=f"claim {of.name}",
        volume_id=f"volume-{of.name}",
        account_id=of.id,
        made={"claim": of.name},
        created_at=NOW - timedelta(days=9),
        note=note(of, charge=False),
    )
    return replace(made, **values)


def seen(*items: SeenLaunch | SeenVolume) -> list[Seen]:
    launches = tuple(one for one in items if isinstance(one, SeenLaunch))
    return [Seen("kubernetes", launches, tuple(one for one in items if isinstance(one, SeenVolume)))]


def test_everything_is_rebuilt_where_nothing_is_known() -> None:
    made = plan(seen(launch(ADA), launch(ADA, "work"), launch(BOB), volume(ADA)), Known(), {})
    assert made.conflicts == ()
    assert [(one.account.id, one.user_name, one.identity) for one in made.accounts] == [
        ("id-ada", "ada", ("ldap:test", "uuid-ada")),
        ("id-bob", "bob", ("ldap:test", "uuid-bob")),
    ]
    assert made.accounts[0].since == NOW - timedelta(days=9)
    assert [one.launch.launch_id for one in made.launches] == ["launch-ada-", "launch-ada-work", "launch-bob-"]
    assert [one.volume.volume_id for one in made.volumes] == ["volume-ada"]
    assert made.launches[0].request["options"] == {"profile": "basic"}


def test_what_the_ledger_knows_stays_as_it_is() -> None:
    known = Known(
        accounts={"id-ada": 20001},
        launches=frozenset({"launch-ada-"}),
        volumes=frozenset({"volume-ada"}),
        active={("id-ada", ""): "launch-ada-"},
        made={volume_key("id-ada", "kubernetes", "home", PLACE): "volume-ada"},
    )
    made = plan(seen(launch(ADA), volume(ADA)), known, {})
    assert made.empty
    assert made.conflicts == ()
    assert unknown_accounts(seen(launch(ADA), launch(BOB)), known).keys() == {"id-bob"}


def test_two_servers_of_one_name_are_both_left_out() -> None:
    made = plan(seen(launch(ADA), launch(ADA, launch_id="other", where="pod twin"), launch(BOB)), Known(), {})
    assert [one.launch.account_id for one in made.launches] == ["id-bob"]
    (conflict,) = made.conflicts
    assert "pod ada-" in conflict.what
    assert "pod twin" in conflict.what


@pytest.mark.parametrize(
    ("items", "known", "directory", "words"),
    [
        ([launch(ADA)], Known(), {"id-ada": "the directory says uid 7"}, "says uid 7"),
        ([launch(ADA)], Known(accounts={"id-ada": 20009}), {}, "uids [20001, 20009]"),
        ([launch(ADA)], Known(accounts={"id-x": 20001}), {}, "another account has uid 20001"),
        ([launch(ADA)], Known(user_names={"ada": "id-x"}), {}, "is the hub's user ada"),
        ([launch(ADA)], Known(identities={("ldap:test", "uuid-ada"): "id-x"}), {}, "same identity"),
        ([launch(ADA, trouble="it runs as uid 9, its note says 20001")], Known(), {}, "runs as uid 9"),
        ([launch(ADA, note=None)], Known(), {}, "does not say whose"),
        ([launch(ADA, note=note(replace(ADA, uid=5))), volume(ADA)], Known(), {}, "uids [5, 20001]"),
    ],
)
def test_a_conflict_leaves_out_the_account_and_all_that_is_its(
    items: list[SeenLaunch | SeenVolume], known: Known, directory: dict[str, str], words: str
) -> None:
    made = plan(seen(*items, launch(BOB)), known, directory)
    assert [one.launch.account_id for one in made.launches] == ["id-bob"]
    assert made.volumes == ()
    assert [one.account.id for one in made.accounts] == ["id-bob"]
    (conflict,) = made.conflicts
    assert words in conflict.why


def test_a_home_is_never_doubled() -> None:
    known = Known(accounts={"id-ada": 20001}, made={volume_key("id-ada", "kubernetes", "home", PLACE): "new"})
    made = plan(seen(volume(ADA)), known, {})
    assert made.empty
    assert "volume new" in made.conflicts[0].why
    made = plan(seen(volume(ADA), volume(ADA, volume_id="second", where="claim second")), Known(), {})
    assert made.volumes == ()
    assert len(made.conflicts) == 1


def test_who_began_anew_in_a_fresh_ledger_gets_her_own_things_under_her_new_account() -> None:
    known = Known(accounts={"id-new": 20001}, identities={("ldap:test", "uuid-ada"): "id-new"})
    made = plan(seen(launch(ADA), volume(ADA)), known, {})
    assert made.conflicts == ()
    assert made.accounts == ()
    assert made.launches[0].launch.account_id == "id-new"
    assert made.volumes[0].volume.account_id == "id-new"
    assert unknown_accounts(seen(launch(ADA)), known) == {}
    other_uid = replace(known, accounts={"id-new": 20077})
    assert plan(seen(launch(ADA)), other_uid, {}).launches == ()


def test_one_person_under_two_accounts_is_the_one_noted_last() -> None:
    """She began anew once before, when the ledger was lost the first time: her disk still names the older account."""
    again = replace(ADA, id="id-again")
    made = plan(seen(volume(ADA), launch(again)), Known(), {})
    assert made.conflicts == ()
    assert [one.account.id for one in made.accounts] == ["id-again"]
    assert made.volumes[0].volume.account_id == "id-again"
    assert made.launches[0].launch.account_id == "id-again"
    other_uid = replace(again, uid=20077)
    made = plan(seen(volume(ADA), launch(other_uid)), Known(), {})
    assert made.empty
    assert all("another account is" in conflict.why for conflict in made.conflicts)
    assert len(made.conflicts) == 2


def test_an_active_launch_of_the_same_server_is_not_replaced() -> None:
    known = Known(accounts={"id-ada": 20001}, active={("id-ada", ""): "launch-new"})
    made = plan(seen(launch(ADA)), known, {})
    assert made.launches == ()
    assert "launch-new" in made.conflicts[0].why


def test_a_note_comes_back_as_it_was_written() -> None:
    text = owned_note(OwnedVolume("v1", "home", PLACE, {}, ADA, "ada", ("ldap:test", "uuid-ada")))
    back = read_note(text, NOW)
    assert (back.account, back.user_name, back.memo.identity) == (ADA, "ada", ("ldap:test", "uuid-ada"))
    assert (back.name, back.place, back.group_gid) == ("home", PLACE, None)
    crew = OwnedVolume("v2", "mine:lab", PLACE, {}, ADA, "ada", ("ldap:test", "uuid-ada"), group_gid=30001)
    assert read_note(owned_note(crew), NOW).group_gid == 30001


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"version": 2}', '{"version": 1, "account": {}}'])
def test_a_note_that_cannot_be_read_says_why(text: str | None) -> None:
    with pytest.raises(ValueError, match="note"):
        read_note(text, NOW)
