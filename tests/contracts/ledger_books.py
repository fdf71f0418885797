"""The ledger's contract, second half: rules, use by the hour, people, audit, leases, notices, projects."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from daas_hub.core.errors import AccountRefused, IllegalMove, InvalidOptions, NotFound
from daas_hub.core.models import Account, LaunchState, Resource, Who
from daas_hub.core.share import Use
from daas_hub.core.turns import Asks
from daas_hub.db.ledger import Ledger

from .ledger import Opened
from .ledger_samples import GIB, NOW, account, reservation, run, settle


def set_limit(ledger: Ledger, who: Who, name: str, resource: Resource, amount: float) -> None:
    """A limit with the note that the audit tests do not look at."""
    ledger.limits.set(who, name, resource, amount, by="admin:root", now=NOW)


class BooksContract(Opened):
    """Everything around launches."""

    def test_effective_limits_with_their_use(self, ledger: Ledger) -> None:
        set_limit(ledger, Who.DEFAULT_EACH, "", Resource.CORES, 4)
        set_limit(ledger, Who.USER, "a1", Resource.CORES, 8.5)
        set_limit(ledger, Who.GROUP_TOTAL, "physics", Resource.MEMORY_BYTES, 10 * GIB)
        set_limit(ledger, Who.GROUP_TOTAL, "chemistry", Resource.MEMORY_BYTES, GIB)
        ledger.reserve(reservation("a1"), now=NOW)
        ledger.reserve(reservation("a2"), now=NOW)
        lines = ledger.limits.effective("a1", ["physics"], None)
        found = [(line.limit.who, line.limit.amount, line.used, line.left) for line in lines]
        assert found == [(Who.USER, 8.5, 2.0, 6.5), (Who.GROUP_TOTAL, 10 * GIB, 2 * GIB, 8 * GIB)]

    def test_what_people_used_in_7_days_and_what_launches_hold_at_a_place(self, ledger: Ledger) -> None:
        set_limit(ledger, Who.DEFAULT_EACH, "", Resource.CORES, 4)
        set_limit(ledger, Who.GROUP_TOTAL, "physics", Resource.GPUS, 8)
        hour = timedelta(hours=1)
        # Ten days ago: counts no more. Two days ago an hour; and one that runs since an hour.
        for ago, name in ((10, "old"), (2, "late")):
            began = NOW - timedelta(days=ago)
            row = ledger.reserve(reservation("a1", name), now=began)
            run(ledger, row, began)
            settle(ledger, row, began + hour)
        running = ledger.reserve(reservation("a1", "now"), now=NOW - hour)
        run(ledger, running, NOW - hour)
        found = ledger.used({"a1": ["physics"], "a2": []}, now=NOW.replace(microsecond=0))
        used = {kind: (round(use.used), use.limit) for kind, use in found["a1"].items()}
        assert used == {
            Resource.SERVERS: (7200, None),
            Resource.CORES: (14400, 4),
            Resource.MEMORY_BYTES: (7200 * GIB, None),
            Resource.GPUS: (0, None),
        }
        assert found["a2"][Resource.CORES] == Use(0, 4)
        waiting = ledger.reserve(reservation("a2", backend="local"), now=NOW)
        ledger.move(waiting.id, LaunchState.QUEUED, now=NOW)
        other = ledger.reserve(reservation("a3", backend="slurm"), now=NOW)
        ledger.move(other.id, LaunchState.SUBMITTED, now=NOW)
        there = ledger.holding("local", (LaunchState.SUBMITTED, LaunchState.RUNNING))
        assert there == {running.id: (LaunchState.RUNNING, Asks(2.0, GIB))}
        assert ledger.holding("slurm", (LaunchState.SUBMITTED,)) == {other.id: (LaunchState.SUBMITTED, Asks(2.0, GIB))}

    def test_a_mail_is_taken_once_and_only_where_it_is_wished(self, ledger: Ledger) -> None:
        row = ledger.reserve(reservation("a1"), now=NOW)
        assert not ledger.take_mail(row.id)
        assert ledger.wish_mail(row.id, True)
        assert ledger.wish_mail(row.id, False)
        assert not ledger.take_mail(row.id)
        assert ledger.wish_mail(row.id, True)
        run(ledger, row, NOW)
        # It is ready: what was wished stays.
        assert not ledger.wish_mail(row.id, False)
        assert [ledger.take_mail(row.id) for _ in range(3)] == [True, False, False]
        kept = ledger.get(row.id)
        assert kept is not None
        assert kept.request == {**row.request, "mail_when_ready": True, "mail_taken": True}
        assert not ledger.wish_mail("none", True)
        assert not ledger.take_mail("none")

    def test_each_change_of_a_limit_is_audited(self, ledger: Ledger) -> None:
        first = ledger.limits.set(Who.DEFAULT_EACH, "", Resource.CORES, 4, "admin:root", NOW, "begin")
        second = ledger.limits.set(Who.DEFAULT_EACH, "", Resource.CORES, 6, "admin:root", NOW, "more")
        assert second == dataclasses.replace(first, amount=6)
        ledger.limits.delete(first.id, by="admin:eve", now=NOW, note="gone")
        assert ledger.limits.list() == []
        rows = ledger.audit.list()
        assert [(r.who, r.action, r.why) for r in rows] == [
            ("admin:eve", "limit_delete", "gone"),
            ("admin:root", "limit_set", "more"),
            ("admin:root", "limit_set", "begin"),
        ]
        assert [(r.old or {}).get("amount") for r in rows] == [6, 4, None]
        assert ledger.audit.list(before=rows[1].id, limit=5) == rows[2:]
        with pytest.raises(NotFound):
            ledger.limits.delete(first.id, by="admin:root", now=NOW)

    @pytest.mark.parametrize(
        ("who", "name", "amount"),
        [
            (Who.DEFAULT_EACH, "x", 1),
            (Who.USER, "", 1),
            (Who.USER, "a1", -1),
            (Who.USER, "a1", float("nan")),
            (Who.USER, "a1", float("inf")),
        ],
    )
    def test_a_limit_that_means_nothing_is_refused(self, ledger: Ledger, who: Who, name: str, amount: float) -> None:
        with pytest.raises(InvalidOptions):
            ledger.limits.set(who, name, Resource.CORES, amount, by="admin:root", now=NOW)
        assert ledger.audit.list() == []

    # ------------------------------------------------------------ use

    def hours(self, url: str, scope: str) -> list[tuple[int, ...]]:
        engine = create_engine(url)
        with engine.connect() as c:
            columns = "hour, server_s, core_ms, memory_byte_s"
            query = text(f"SELECT {columns} FROM usage_hour WHERE scope = :scope ORDER BY hour")
            found = [tuple(row) for row in c.execute(query, {"scope": scope})]
        engine.dispose()
        return found

    def test_use_is_counted_by_the_hour_for_every_scope(self, ledger: Ledger, url: str) -> None:
        row = run(ledger, ledger.reserve(reservation(), now=NOW), NOW)
        assert ledger.count_open(now=NOW) == 0
        assert ledger.count_open(now=NOW + timedelta(hours=1)) == 1
        assert ledger.recount() == []
        hour = int(NOW.timestamp()) // 3600
        first = 29 * 60 + 45  # 8:30:15 to 9:00
        assert self.hours(url, "user:a1") == [(hour, first, first * 2000, first * GIB)]
        settle(ledger, row, NOW + timedelta(hours=2))
        seconds = [first, 3600, 3600 - first]
        expected = [(hour + i, s, s * 2000, s * GIB) for i, s in enumerate(seconds)]
        for scope in ("user:a1", "group:students", "group:physics", "project:beamtime"):
            assert self.hours(url, scope) == expected

    def test_suspended_time_does_not_count(self, ledger: Ledger, url: str) -> None:
        row = run(ledger, ledger.reserve(reservation(), now=NOW), NOW)
        ledger.suspend(row.id, now=NOW + timedelta(minutes=5))
        ledger.suspend(row.id, now=NOW + timedelta(minutes=6))
        ledger.resume(row.id, now=NOW + timedelta(minutes=10))
        ledger.resume(row.id, now=NOW + timedelta(minutes=11))
        settle(ledger, row, NOW + timedelta(minutes=12))
        assert sum(line[1] for line in self.hours(url, "user:a1")) == 7 * 60
        with pytest.raises(IllegalMove):
            ledger.resume(row.id, now=NOW)

    def test_a_clock_that_jumps_back_takes_out_what_was_too_much(self, ledger: Ledger, url: str) -> None:
        row = run(ledger, ledger.reserve(reservation(), now=NOW), NOW)
        ledger.count_open(now=NOW + timedelta(hours=30))
        settle(ledger, row, NOW + timedelta(minutes=1))
        assert sum(line[1] for line in self.hours(url, "user:a1")) == 60
        assert ledger.recount() == []

    def test_recount_finds_and_mends(self, ledger: Ledger, url: str) -> None:
        row = run(ledger, ledger.reserve(reservation(), now=NOW), NOW)
        ledger.count_open(now=NOW + timedelta(hours=1))
        engine = create_engine(url)
        with engine.begin() as c:
            c.execute(text("UPDATE balance SET cores_m = cores_m + 1 WHERE scope = 'user:a1'"))
            c.execute(text("DELETE FROM usage_hour WHERE scope = 'group:physics'"))
        engine.dispose()
        found = ledger.recount()
        assert str(found[0]) == "balance user:a1: cores_m is 2001, the rows say 2000"
        assert {d.table for d in found} == {"balance", "usage_hour"}
        assert ledger.recount(fix=True) == found
        assert ledger.recount() == []
        settle(ledger, row, NOW + timedelta(hours=1))

    # ------------------------------------------------------------ people

    def test_an_account_keeps_its_id(self, ledger: Ledger) -> None:
        first = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        later = account(name="alice2", home="/data/alice2")
        renamed = ledger.accounts.upsert(later, ("ldap:site", "uuid-1"), "alice2", now=NOW)
        assert renamed.id == first.id
        assert dataclasses.replace(later, id=first.id) == Account(
            **{f.name: getattr(renamed, f.name) for f in dataclasses.fields(Account)}
        )
        assert ledger.accounts.by_identity("ldap:site", "uuid-1") == renamed
        assert ledger.accounts.by_user_name("alice2") == ledger.accounts.by_id(first.id) == renamed
        assert ledger.accounts.by_user_name("alice") is None

    def test_a_recycled_name_is_another_account(self, ledger: Ledger) -> None:
        old = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        new = ledger.accounts.upsert(account(uid=6001), ("ldap:site", "uuid-2"), "alice", now=NOW)
        assert new.id != old.id
        found = ledger.accounts.by_user_name("alice")
        assert found is not None
        assert found.id == new.id
        gone = ledger.accounts.by_id(old.id)
        assert gone is not None
        assert gone.user_name == ""

    def test_a_user_who_is_renamed_takes_the_account_along(self, ledger: Ledger) -> None:
        old = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        stale = ledger.accounts.upsert(account(uid=6001), ("ldap:site", "uuid-2"), "carol", now=NOW)
        ledger.accounts.rename_user("alice", "carol")
        ledger.accounts.rename_user("bob", "alice")
        found = ledger.accounts.by_user_name("carol")
        assert found is not None
        assert found.id == old.id
        assert ledger.accounts.by_user_name("alice") is None
        ledger.accounts.rename_user("carol", None)
        names = [ledger.accounts.by_id(row.id) for row in (old, stale)]
        assert [row.user_name for row in names if row is not None] == ["", ""]

    def test_another_uid_waits_for_an_administrator(self, ledger: Ledger) -> None:
        key = ("ldap:site", "uuid-1")
        old = ledger.accounts.upsert(account(), key, "alice", now=NOW)
        for _ in range(2):
            with pytest.raises(AccountRefused, match=r"5001.*7001"):
                ledger.accounts.upsert(account(uid=7001), key, "alice", now=NOW)
        stored = ledger.accounts.by_id(old.id)
        assert stored is not None
        assert stored.uid == 5001
        (change,) = ledger.accounts.uid_changes()
        assert (change.old_uid, change.new_uid) == (5001, 7001)
        assert ledger.accounts.confirm_uid(old.id, by="admin:root", now=NOW).uid == 7001
        assert ledger.accounts.uid_changes() == []
        assert ledger.accounts.upsert(account(uid=7001), key, "alice", now=NOW).uid == 7001
        assert [(r.action, r.old, r.new) for r in ledger.audit.list()] == [
            ("uid_confirm", {"uid": 5001, "gid": 5000}, {"uid": 7001, "gid": 5000})
        ]
        with pytest.raises(NotFound):
            ledger.accounts.confirm_uid(old.id, by="admin:root", now=NOW)

    def test_a_uid_of_somebody_else_waits_for_an_administrator(self, ledger: Ledger) -> None:
        ada, eve = ("ldap:site", "uuid-1"), ("ldap:site", "uuid-2")
        ledger.accounts.upsert(account(name="ada"), ada, "ada", now=NOW)
        for _ in range(2):
            with pytest.raises(AccountRefused, match=r"eve .*uid 5001, which ada has") as refused:
                ledger.accounts.upsert(account(name="eve"), eve, "eve", now=NOW)
            assert refused.value.reason == "uid_taken"
        assert ledger.accounts.upsert(account(name="ada"), ada, "ada", now=NOW).uid == 5001
        (change,) = ledger.accounts.uid_changes()
        assert (change.new_uid, change.holder) == (5001, "ada")
        # A detour over a free uid and back confirms nothing.
        for uid in (6001, 5001):
            with pytest.raises(AccountRefused):
                ledger.accounts.upsert(account(name="eve", uid=uid), eve, "eve", now=NOW)
        ledger.accounts.confirm_uid(change.account_id, by="admin:root", now=NOW)
        assert ledger.accounts.uid_changes() == []
        assert ledger.accounts.upsert(account(name="eve"), eve, "eve", now=NOW).uid == 5001

    def test_a_uid_that_is_free_again_needs_nobody(self, ledger: Ledger) -> None:
        ada, eve = ("ldap:site", "uuid-1"), ("ldap:site", "uuid-2")
        first = ledger.accounts.upsert(account(name="ada"), ada, "ada", now=NOW)
        for key, uid in ((eve, 5001), (ada, 6001)):
            with pytest.raises(AccountRefused):
                ledger.accounts.upsert(account(name="x", uid=uid), key, key[1], now=NOW)
        ledger.accounts.confirm_uid(first.id, by="admin:root", now=NOW)
        assert ledger.accounts.upsert(account(name="eve"), eve, "eve", now=NOW).uid == 5001
        assert ledger.accounts.uid_changes() == []
        # Hers from now on, whoever comes next.
        with pytest.raises(AccountRefused, match="which eve has"):
            ledger.accounts.upsert(account(name="carl"), ("ldap:site", "uuid-3"), "carl", now=NOW)
        assert ledger.accounts.upsert(account(name="eve"), eve, "eve", now=NOW).uid == 5001

    def test_where_everybody_shares_a_uid_it_is_no_duplicate(self, ledger: Ledger) -> None:
        for n in range(2):
            ledger.accounts.upsert(account(name=f"p{n}"), ("ldap:site", f"u{n}"), f"p{n}", now=NOW, share_uid=True)
        assert ledger.accounts.uid_changes() == []

    def test_rows_of_an_administrator(self, ledger: Ledger) -> None:
        assert ledger.accounts.get_row("alice") is None
        ledger.accounts.set_row(account(), by="admin:root", now=NOW, why="guest")
        ledger.accounts.set_row(account(uid=5002), by="admin:root", now=NOW)
        row = ledger.accounts.get_row("alice")
        assert row == account(uid=5002, source="admin")
        ledger.accounts.delete_row("alice", by="admin:root", now=NOW)
        assert ledger.accounts.get_row("alice") is None
        assert [r.action for r in ledger.audit.list()] == [
            "account_row_delete",
            "account_row_set",
            "account_row_set",
        ]

    # ------------------------------------------------------------ the rest

    def test_the_audit_is_append_only(self, ledger: Ledger, url: str) -> None:
        ledger.audit.append(NOW, "admin:root", "test", "nothing:1", {"a": 1}, {"a": 2}, "because")
        engine = create_engine(url)
        for statement in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
            with pytest.raises(DBAPIError, match="append-only"), engine.begin() as c:
                c.execute(text(statement))
        engine.dispose()
        (row,) = ledger.audit.list()
        assert (row.at, row.who, row.old, row.new, row.why) == (NOW, "admin:root", {"a": 1}, {"a": 2}, "because")

    def test_what_is_audited_once_has_one_row(self, ledger: Ledger) -> None:
        added = [
            ledger.audit.append_once(NOW, "reconciler", action, subject, {"n": n}, "because")
            for n, (action, subject) in enumerate([("a", "x"), ("a", "x"), ("b", "x"), ("a", "y"), ("a", "y")])
        ]
        assert added == [True, False, True, True, False]
        assert [(row.action, row.subject, row.new) for row in ledger.audit.list()] == [
            ("a", "y", {"n": 3}), ("b", "x", {"n": 2}), ("a", "x", {"n": 0})
        ]  # fmt: skip

    def test_a_lease_has_one_holder(self, ledger: Ledger) -> None:
        leases = ledger.leases
        assert leases.acquire("culler", "one", 10, NOW)
        assert leases.acquire("culler", "one", 10, NOW + timedelta(seconds=5))
        assert not leases.acquire("culler", "two", 10, NOW + timedelta(seconds=14))
        assert leases.acquire("reconciler", "two", 10, NOW)
        assert leases.acquire("culler", "two", 10, NOW + timedelta(seconds=15))
        leases.release("culler", "one")
        assert not leases.acquire("culler", "one", 10, NOW + timedelta(seconds=16))
        leases.release("culler", "two")
        assert leases.acquire("culler", "one", 10, NOW + timedelta(seconds=16))

    def test_notices_until_they_are_dismissed(self, ledger: Ledger) -> None:
        ledger.notices.add("a1", "", "Stopped: idle", now=NOW)
        ledger.notices.add("a1", "lab", "Stopped: age", now=NOW + timedelta(seconds=1))
        ledger.notices.add("a2", "", "other", now=NOW)
        first, second = ledger.notices.list("a1")
        assert [n.text for n in (first, second)] == ["Stopped: age", "Stopped: idle"]
        ledger.notices.dismiss(first.id, now=NOW, account_id="a2")
        assert ledger.notices.list("a1", "lab") == [first]
        ledger.notices.dismiss(first.id, now=NOW)
        assert ledger.notices.list("a1") == [second]
        assert len(ledger.notices.list("a1", dismissed=True)) == 2

    def test_projects_and_their_members(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        made = ledger.projects.set("beam-1", by="admin:root", now=NOW, gid=9001, ends_at=NOW + timedelta(days=9))
        for _ in range(2):
            ledger.projects.add_member("beam-1", alice.id, by="admin:root", now=NOW)
        (mine,) = ledger.projects.list(account_id=alice.id)
        assert mine == dataclasses.replace(made, members=(alice.id,))
        ledger.projects.remove_member("beam-1", alice.id, by="admin:root", now=NOW)
        assert ledger.projects.list(account_id=alice.id) == []
        changed = ledger.projects.set("beam-1", by="admin:root", now=NOW, gid=9002)
        assert (changed.id, changed.gid, changed.ends_at) == (made.id, 9002, None)
        assert len(ledger.audit.list()) == 4
        with pytest.raises(NotFound):
            ledger.projects.add_member("beam-2", alice.id, by="admin:root", now=NOW)
        with pytest.raises(InvalidOptions):
            ledger.projects.set("../x", by="admin:root", now=NOW)
