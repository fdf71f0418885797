"""The ledger's contract about links: one account for each identity, also for two that ask at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from daas_hub.core.errors import LinkRefused, NotFound
from daas_hub.core.linking import AUTHORITATIVE, MAX_LINKS
from daas_hub.db.invites import LASTS, hash_of
from daas_hub.db.ledger import Ledger

from .ledger import Opened
from .ledger_samples import NOW, account

ISSUER = "https://id.test"


def two(ledger: Ledger) -> tuple[str, str]:
    """Two accounts of the directory."""
    rows = ledger.accounts
    ada = rows.upsert(account(name="ada"), ("ldap:site", "uuid-ada"), "ada", NOW)
    bob = rows.upsert(account(name="bob", uid=5002), ("ldap:site", "uuid-bob"), "bob", NOW)
    return ada.id, bob.id


def add(ledger: Ledger, subject: str, account_id: str) -> bool:
    more = {"label": "Ada", "proof": "password", "by": "user:ada"}
    return ledger.links.add((ISSUER, subject), account_id, **more, now=NOW)


class LinksContract(Opened):
    """What both engines do."""

    def test_an_identity_opens_one_account(self, ledger: Ledger) -> None:
        ada, bob = two(ledger)
        assert add(ledger, "1", ada)
        assert not add(ledger, "1", ada)
        with pytest.raises(LinkRefused):
            add(ledger, "1", bob)
        with pytest.raises(LinkRefused):
            ledger.links.add(("ldap:site", "uuid-bob"), ada, label="", proof="", by="", now=NOW)
        with pytest.raises(NotFound):
            add(ledger, "2", "nobody")
        assert [link.key for link in ledger.links.of(ada)] == [("ldap:site", "uuid-ada"), (ISSUER, "1")]
        assert [row.action for row in ledger.audit.list()] == ["link"]
        assert len(ledger.notices.list(ada)) == 1

    def test_of_two_at_once_one_is_linked(self, ledger: Ledger) -> None:
        accounts = two(ledger)

        def attempt(n: int) -> bool:
            try:
                return add(ledger, str(n // 2), accounts[n % 2])
            except LinkRefused:
                return False

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(attempt, range(16)))
        assert [sum(pair) for pair in zip(made[::2], made[1::2], strict=True)] == [1] * 8

    def test_links_are_bounded_and_go_with_their_owner_only(self, ledger: Ledger) -> None:
        ada, bob = two(ledger)
        for n in range(MAX_LINKS - 1):
            add(ledger, str(n), ada)
        with pytest.raises(LinkRefused):
            add(ledger, "one more", ada)
        entry, first, *_ = ledger.links.of(ada)
        with pytest.raises(NotFound):
            ledger.links.remove(first.id, by="user:bob", now=NOW, account_id=bob)
        with pytest.raises(LinkRefused):
            ledger.links.remove(entry.id, by="admin:boss", now=NOW)
        ledger.links.remove(first.id, by="admin:boss", now=NOW)
        assert ledger.links.find(first.key) is None

    def test_an_issuers_word_brings_nothing_back(self, ledger: Ledger) -> None:
        ada, bob = two(ledger)
        more = {"label": "Ada", "proof": AUTHORITATIVE, "by": "issuer:x"}
        assert ledger.links.add((ISSUER, "1"), ada, **more, now=NOW)
        assert not ledger.links.add((ISSUER, "1"), ada, **more, now=NOW)
        for _ in range(2):
            ledger.links.remove(ledger.links.of(ada)[1].id, by="user:ada", now=NOW)
            with pytest.raises(LinkRefused, match="unlinked from the account before"):
                ledger.links.add((ISSUER, "1"), ada, **more, now=NOW)
            assert add(ledger, "1", ada)
        ledger.links.remove(ledger.links.of(ada)[1].id, by="user:ada", now=NOW)
        # Of another account nothing is known.
        assert ledger.links.add((ISSUER, "1"), bob, **more, now=NOW)

    def test_a_request_is_open_once_and_decided_once(self, ledger: Ledger) -> None:
        ada, bob = two(ledger)
        body = {"version": 1, "issuer": ISSUER, "subject": "9", "label": "Nine", "text": ""}
        asked = ledger.links.ask((ISSUER, "9"), body, now=NOW)
        assert ledger.links.ask((ISSUER, "9"), body, now=NOW) == asked
        add(ledger, "9", bob)
        with pytest.raises(LinkRefused):
            ledger.links.accept(asked.id, ada, by="admin:boss", now=NOW)
        # Both or neither: what could not be linked is still open.
        assert [row.id for row in ledger.links.requests()] == [asked.id]
        ledger.links.refuse(asked.id, by="admin:boss", now=NOW, why="no")
        with pytest.raises(NotFound):
            ledger.links.accept(asked.id, bob, by="admin:boss", now=NOW)
        assert ledger.links.requests() == []

    def test_an_invitation_is_good_once_and_for_its_account(self, ledger: Ledger) -> None:
        ada, bob = two(ledger)
        ledger.invites.make("a code", ada, by="admin:boss", now=NOW, why="new badge")
        assert ledger.invites.is_open(hash_of("a code"), NOW)
        assert not ledger.invites.is_open("a code", NOW)
        late = NOW + LASTS
        assert not ledger.invites.is_open(hash_of("a code"), late)
        with pytest.raises(LinkRefused):
            ledger.invites.redeem(hash_of("a code"), (ISSUER, "1"), label="Ada", now=late)
        # Another account's identity is not turned over, and the code is not spent by the try.
        assert add(ledger, "2", bob)
        with pytest.raises(LinkRefused):
            ledger.invites.redeem(hash_of("a code"), (ISSUER, "2"), label="Bob", now=NOW)
        assert ledger.invites.redeem(hash_of("a code"), (ISSUER, "1"), label="Ada", now=NOW) == (ada, True)
        with pytest.raises(LinkRefused):
            ledger.invites.redeem(hash_of("a code"), (ISSUER, "3"), label="Eve", now=NOW)
        (link,) = [link for link in ledger.links.of(ada) if link.issuer == ISSUER]
        assert (link.subject, link.proof) == ("1", "invitation")
        assert [row.action for row in ledger.audit.list(subject=f"account:{ada}")] == ["link", "invite"]
        assert "a code" not in str(ledger.audit.list())
        # It is no request of somebody's, and takes no room among them.
        assert ledger.links.requests() == ledger.links.requests(still_open=False) == []
        with pytest.raises(NotFound):
            ledger.invites.make("x", "nobody", by="admin:boss", now=NOW, why="x")

    def test_of_many_who_bring_one_code_at_once_one_is_linked(self, ledger: Ledger) -> None:
        ada, _ = two(ledger)
        ledger.invites.make("a code", ada, by="admin:boss", now=NOW, why="new badge")

        def attempt(n: int) -> bool:
            try:
                return ledger.invites.redeem(hash_of("a code"), (ISSUER, str(n)), label="Ada", now=NOW)[1]
            except LinkRefused:
                return False

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, range(8))) == 1
        assert len(ledger.links.of(ada)) == 2
