"""The ledger's contract about local groups: members by account, names that are taken, what the audit keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from daas_hub.core.errors import InvalidOptions, NotFound
from daas_hub.core.groups import SiteGroups
from daas_hub.db.ledger import Ledger

from .ledger import Opened
from .ledger_samples import NOW, account

BY = {"by": "admin:boss", "now": NOW}
KEY = ("ldap:site", "uuid-1")


class GroupsContract(Opened):
    """Rows of groups."""

    def test_members_are_accounts_and_every_change_is_in_the_audit(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), KEY, "alice", now=NOW)
        made = ledger.local_groups.create("gpu", "may use GPUs", **BY, why="ticket 7")
        assert (made.name, made.description, made.made_by, made.members) == ("gpu", "may use GPUs", "admin:boss", ())
        assert ledger.local_groups.list() == [made]
        for _ in range(2):
            ledger.local_groups.add_member("gpu", alice.id, **BY)
        assert ledger.local_groups.get("gpu").members == (alice.id,)
        assert ledger.local_groups.of_identity(*KEY, ["lab"], NOW) == SiteGroups(local=("gpu",))
        # Whatever she is called, she is a member; whoever gets her name is not.
        ledger.accounts.rename_user("alice", "alicia")
        ledger.accounts.upsert(account(name="bob", uid=6001), ("ldap:site", "uuid-2"), "alice", now=NOW)
        assert ledger.local_groups.of_identity(*KEY, [], NOW).local == ("gpu",)
        assert ledger.local_groups.of_identity("ldap:site", "uuid-2", [], NOW).local == ()
        assert ledger.local_groups.of_identity("oidc:else", "uuid-1", [], NOW) == SiteGroups()
        for _ in range(2):
            ledger.local_groups.remove_member("gpu", alice.id, **BY, why="left")
        assert ledger.local_groups.of_identity(*KEY, [], NOW) == SiteGroups()
        ledger.local_groups.add_member("gpu", alice.id, **BY)
        ledger.local_groups.delete("gpu", **BY)
        assert ledger.local_groups.list() == []
        assert ledger.local_groups.of_identity(*KEY, [], NOW) == SiteGroups()
        rows = ledger.audit.list(subject="local_group:gpu")
        assert [(row.action, row.why) for row in reversed(rows)] == [
            ("local_group_create", "ticket 7"),
            ("local_group_member_add", ""),
            ("local_group_member_remove", "left"),
            ("local_group_member_add", ""),
            ("local_group_delete", ""),
        ]
        assert {row.who for row in rows} == {"admin:boss"}
        assert rows[0].old == {"description": "may use GPUs", "members": [alice.id]}
        assert rows[1].new == {"account_id": alice.id}

    def test_what_does_not_exist_is_refused(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), KEY, "alice", now=NOW)
        ledger.local_groups.create("gpu", **BY)
        for change in (
            lambda: ledger.local_groups.add_member("none", alice.id, **BY),
            lambda: ledger.local_groups.remove_member("none", alice.id, **BY),
            lambda: ledger.local_groups.add_member("gpu", "nobody", **BY),
            lambda: ledger.local_groups.delete("none", **BY),
        ):
            with pytest.raises(NotFound):
                change()
        assert ledger.local_groups.get("gpu").members == ()
        assert ledger.local_groups.get("none") is None

    def test_a_name_that_somebody_has_is_refused(self, ledger: Ledger) -> None:
        ledger.local_groups.note_directory("ldap:site", ["lab", "Jupyter Users", "a\0b", "\ud800"], NOW)
        ledger.local_groups.note_directory("oidc:else", ["lab"], NOW + timedelta(days=1))
        seen = {group.name: (group.issuer, group.seen_at) for group in ledger.local_groups.directory()}
        assert seen == dict.fromkeys(("lab", "Jupyter Users", "a\ufffdb", "\ufffd\ufffd\ufffd"), ("ldap:site", NOW))
        ledger.projects.set("p-1", **BY)
        ledger.local_groups.create("gpu", **BY)
        for name in ("lab", "p-1", "gpu", "Big"):
            with pytest.raises(InvalidOptions) as refused:
                ledger.local_groups.create(name, **BY)
            assert refused.value.field == "name"
        with pytest.raises(InvalidOptions, match="'gpu' is a local group of this hub"):
            ledger.projects.set("gpu", **BY)
        assert ledger.projects.get("gpu") is None
        assert [group.name for group in ledger.local_groups.list()] == ["gpu"]

    def test_a_directory_that_takes_a_local_name_is_told(self, ledger: Ledger) -> None:
        ledger.local_groups.create("gpu", **BY)
        ledger.local_groups.note_directory("ldap:site", ["gpu"], NOW)
        hostile = ["gpu", "lab", "a\0b", "\ud800", "x" * 5000]
        assert ledger.local_groups.of_identity(*KEY, hostile, NOW) == SiteGroups(taken=frozenset({"gpu"}))
        ledger.local_groups.delete("gpu", **BY)
        assert ledger.local_groups.of_identity(*KEY, hostile, NOW) == SiteGroups()
        # Now it is the directory's for good.
        with pytest.raises(InvalidOptions, match="is a group of the directory"):
            ledger.local_groups.create("gpu", **BY)

    def test_a_project_is_a_group_of_its_members_while_it_runs(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), KEY, "alice", now=NOW)
        ledger.projects.set("p-1", **BY, starts_at=NOW, ends_at=NOW + timedelta(days=1))
        ledger.projects.set("p-2", **BY)
        ledger.projects.add_member("p-1", alice.id, **BY)
        days = (-1, 0, 1)
        found = [ledger.local_groups.of_identity(*KEY, [], NOW + timedelta(days=d)).projects for d in days]
        assert found == [(), ("p-1",), ()]

    def test_of_many_who_make_one_name_one_does(self, ledger: Ledger) -> None:
        def make(_: int) -> bool:
            try:
                ledger.local_groups.create("gpu", **BY)
            except InvalidOptions:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(make, range(8))) == 1
        assert len(ledger.audit.list(subject="local_group:gpu")) == 1
