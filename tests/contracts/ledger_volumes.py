"""The ledger's contract about volumes: found again, kept, let go, of a project, told by pages."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from daas_hub.core.adopt import NewVolume, Plan
from daas_hub.core.errors import NotFound
from daas_hub.core.models import Memo
from daas_hub.core.recall import Note, SeenVolume
from daas_hub.db.ledger import Ledger
from daas_hub.db.rows import Place
from daas_hub.db.volumes import VolumeState

from .ledger import Opened
from .ledger_samples import NOW, account

CLAIM = {"version": 1, "kind": "claim"}
NFS = {"version": 1, "kind": "nfs", "server": "nas", "path": "/export/crew"}


class VolumesContract(Opened):
    """Rows of volumes."""

    def test_a_home_is_found_again_and_what_is_everybodys_has_one_row(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        bob = ledger.accounts.upsert(account(name="bob", uid=6001), ("ldap:site", "uuid-2"), "bob", now=NOW)
        claim = {"version": 1, "kind": "claim"}

        def ensure(who: str | None, name: str = "home", place: dict[str, object] = claim) -> str:
            return ledger.volumes.ensure(name, "kubernetes", place, now=NOW, account_id=who).id

        assert ensure(alice.id) == ensure(alice.id) != ensure(bob.id)
        nfs = {"version": 1, "kind": "nfs", "server": "nas", "path": "/export/crew"}
        crew = ensure(None, "groups:crew", nfs)
        assert ensure(None, "groups:crew", dict(reversed(nfs.items()))) == crew
        assert ensure(None, "groups:crew", {**nfs, "path": "/other/crew"}) != crew
        assert ledger.volumes.get(crew).account_id is None

    def test_volumes_of_a_deleted_user_wait_and_are_hers_when_she_is_back(self, ledger: Ledger) -> None:
        key, place, until = ("ldap:site", "uuid-1"), {"version": 1, "kind": "claim"}, NOW + timedelta(days=30)
        alice = ledger.accounts.upsert(account(), key, "alice", now=NOW)
        home = ledger.volumes.ensure("home", "kubernetes", place, now=NOW, account_id=alice.id)
        shared = ledger.volumes.ensure("crew", "kubernetes", place, now=NOW, account_id=None)
        ledger.volumes.record_made(home.id, {"claim": "c", "namespace": "n"})

        assert ledger.volumes.retain("nobody", now=NOW, expires_at=until) == []
        assert ledger.volumes.retain("alice", now=NOW, expires_at=until) == [home.id]
        ledger.accounts.rename_user("alice", None)
        kept = ledger.volumes.get(home.id)
        assert (kept.state, kept.retained_at, kept.expires_at) == (VolumeState.RETAINED, NOW, until)
        assert ledger.volumes.get(shared.id).state is VolumeState.IN_USE
        assert ledger.volumes.due(until - timedelta(seconds=1)) == []
        assert not ledger.volumes.expire(home.id, now=until - timedelta(seconds=1))
        assert [row.id for row in ledger.volumes.due(until)] == [home.id]

        ledger.accounts.upsert(account(), key, "alice", now=NOW)
        back = ledger.volumes.get(home.id)
        assert (back.state, back.expires_at) == (VolumeState.IN_USE, None)
        assert ledger.volumes.due(until) == []
        assert not ledger.volumes.expire(home.id, now=until)

        # Also where the ledger could not be told, after that, that her name is gone.
        ledger.volumes.retain("alice", now=NOW, expires_at=until)
        ledger.accounts.upsert(account(), key, "alice", now=NOW)
        assert ledger.volumes.get(home.id).state is VolumeState.IN_USE

        # A start alone takes it back, too: whoever starts a server uses it.
        ledger.volumes.retain("alice", now=NOW, expires_at=until)
        assert ledger.volumes.ensure("home", "kubernetes", place, now=NOW, account_id=alice.id).id == home.id
        assert ledger.volumes.get(home.id).state is VolumeState.IN_USE

    def test_what_is_kept_for_ever_is_never_due(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        home = ledger.volumes.ensure("home", "local", {"version": 1, "path": "/h"}, now=NOW, account_id=alice.id)
        ledger.volumes.retain("alice", now=NOW, expires_at=None)
        later = NOW + timedelta(days=10_000)
        assert ledger.volumes.due(later) == []
        assert not ledger.volumes.expire(home.id, now=later)

    def test_an_expired_volume_is_due_until_it_is_removed_and_never_found_again(self, ledger: Ledger) -> None:
        place = {"version": 1, "kind": "claim"}
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        home = ledger.volumes.ensure("home", "kubernetes", place, now=NOW, account_id=alice.id)
        ledger.volumes.retain("alice", now=NOW, expires_at=NOW)
        assert ledger.volumes.expire(home.id, now=NOW)
        assert ledger.volumes.expire(home.id, now=NOW)
        assert [row.id for row in ledger.volumes.due(NOW)] == [home.id]
        assert ledger.volumes.ensure("home", "kubernetes", place, now=NOW, account_id=alice.id).id != home.id
        ledger.volumes.record_made(home.id, {"removed_at": "now"})
        assert ledger.volumes.due(NOW) == []
        assert ledger.volumes.get(home.id).state is VolumeState.EXPIRED

    def test_volumes_are_retained_then_expired(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        made = ledger.volumes.add("home", "local", {"version": 1, "path": "/h"}, now=NOW, account_id=alice.id)
        assert ledger.volumes.list(account_id=alice.id) == [made]
        until = NOW + timedelta(days=30)
        kept = ledger.volumes.set_state(made.id, VolumeState.RETAINED, now=NOW, expires_at=until)
        assert (kept.retained_at, kept.expires_at) == (NOW, until)
        assert ledger.volumes.list(state=VolumeState.RETAINED) == [kept]
        with pytest.raises(NotFound):
            ledger.volumes.get("nothing")

    def test_a_volume_of_a_group_is_its_projects_by_the_gid(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        beam = ledger.projects.set("beam", by="admin:root", now=NOW, gid=5100)
        # A project of the group's name and another gid is another project.
        ledger.projects.set("crew", by="admin:root", now=NOW, gid=5999)

        def ensure(owner: str | None, gid: int | None, name: str = "groups:crew") -> str | None:
            return ledger.volumes.ensure(name, "kubernetes", NFS, now=NOW, account_id=owner, group_gid=gid).project_id

        assert ensure(None, 5100) == beam.id
        assert ensure(alice.id, 5100, "mine:crew") == beam.id
        assert ensure(alice.id, 5000, "mine:users") is None
        assert ensure(alice.id, None, "home") is None
        # The project was entered after the volume was made; once it is known, it stays known.
        late = ledger.projects.set("late", by="admin:root", now=NOW, gid=5000)
        assert ensure(alice.id, 5000, "mine:users") == late.id
        ledger.projects.set("late", by="admin:root", now=NOW, gid=5001)
        assert ensure(alice.id, 5000, "mine:users") == late.id

    def test_a_volume_that_is_written_down_again_is_its_projects_too(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        beam = ledger.projects.set("beam", by="admin:root", now=NOW, gid=5100)
        note = Note(alice, "alice", Memo(), name="mine:crew", place=NFS, group_gid=5100)
        made = {"claim": "daas-v1", "namespace": "n"}
        seen = SeenVolume("claim daas-v1", "v1", alice.id, made, NOW, note)
        other = replace(seen, volume_id="v2", note=replace(note, name="mine:users", group_gid=5000))
        volumes = tuple(NewVolume(one, one.note, "kubernetes") for one in (seen, other) if one.note is not None)
        ledger.restore.write(Plan(volumes=volumes), {}, now=NOW)
        assert [ledger.volumes.get(id).project_id for id in ("v1", "v2")] == [beam.id, None]
        # It is found again, and its disk is told of the group once more.
        again = ledger.volumes.ensure("mine:crew", "kubernetes", NFS, now=NOW, account_id=alice.id, group_gid=5100)
        assert again.id == "v1"
        owned = {one.volume_id: one.group_gid for one in ledger.restore.owned(ledger.accounts.list())}
        assert owned == {"v1": 5100, "v2": None}

    def test_everybodys_volumes_by_page_and_by_what_became_of_them(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        bob = ledger.accounts.upsert(account(name="bob", uid=6001), ("ldap:site", "uuid-2"), "bob", now=NOW)
        ledger.projects.set("beam", by="admin:root", now=NOW, gid=5100)
        ids = [
            ledger.volumes.ensure(
                f"v{number}", "kubernetes", CLAIM, now=NOW, account_id=(alice, bob)[number % 2].id, group_gid=5100
            ).id
            for number in range(6)
        ]
        ledger.volumes.record_made(ids[2], {"growth": {"state": "refused", "has": "1Gi", "to": "2Gi"}})
        ledger.volumes.record_made(ids[3], {"growth": {"state": "done", "has": "2Gi", "to": "2Gi"}})
        seen: list[str] = []
        before = None
        while page := ledger.volumes.page(limit=4, before=before):
            seen += [row.id for row, _ in page]
            assert {slug for _, slug in page} == {"beam"}
            before = Place(page[-1][0].created_at, page[-1][0].id)
        assert (sorted(seen), seen) == (sorted(ids), sorted(ids, reverse=True))
        assert [row.id for row, _ in ledger.volumes.page(growth="refused")] == [ids[2]]
        assert {row.id for row, _ in ledger.volumes.page(account_id=bob.id)} == set(ids[1::2])
        ledger.volumes.retain("bob", now=NOW, expires_at=None)
        assert {row.id for row, _ in ledger.volumes.page(state=VolumeState.RETAINED)} == set(ids[1::2])
        assert ledger.volumes.page(account_id=alice.id, state=VolumeState.RETAINED) == []

    def test_who_is_in_a_project_sees_its_volumes_and_nobody_elses(self, ledger: Ledger) -> None:
        alice = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "alice", now=NOW)
        bob = ledger.accounts.upsert(account(name="bob", uid=6001), ("ldap:site", "uuid-2"), "bob", now=NOW)
        ledger.projects.set("beam", by="admin:root", now=NOW, gid=5100)
        ledger.projects.add_member("beam", alice.id, by="admin:root", now=NOW)
        for name, owner, gid in (("home", alice, None), ("home", bob, None), ("mine:crew", bob, 5100)):
            ledger.volumes.ensure(name, "kubernetes", CLAIM, now=NOW, account_id=owner.id, group_gid=gid)
        ledger.volumes.ensure("groups:crew", "kubernetes", NFS, now=NOW, account_id=None, group_gid=5100)
        ledger.volumes.ensure("atlas", "kubernetes", NFS, now=NOW, account_id=None)
        seen = ledger.volumes.seen_by(alice.id)
        assert [(row.name, row.account_id, slug) for row, slug in seen] == [
            ("groups:crew", None, "beam"),
            ("home", alice.id, None),
        ]
