"""How many failed sign-ins are too many."""

from __future__ import annotations

import threading

import pytest

from daas_hub.auth.attempts import Attempt, Limits
from daas_hub.core.attempts import MAX_KEY, Failures, network_of
from daas_hub.core.errors import TooManyAttempts


def test_failures_are_forgotten_one_by_one() -> None:
    failures = Failures(2, 600)
    assert [failures.begin("ada", now) for now in (0.0, 100.0)] == [0, 0]
    assert failures.begin("ada", 200.0) == 400
    assert failures.begin("bob", 200.0) == 0
    assert failures.begin("ada", 599.0) == 1
    assert failures.begin("ada", 600.0) == 0
    assert failures.begin("ada", 600.0) == 100


def test_no_limit() -> None:
    failures = Failures(0, 600)
    assert {failures.begin("ada", 0.0) for _ in range(1000)} == {0.0}
    assert len(failures) == 0


def test_an_attempt_that_was_none_is_taken_back_and_a_proof_forgives() -> None:
    failures = Failures(2, 600)
    failures.begin("ada", 0.0)
    failures.begin("ada", 0.0)
    failures.take_back("ada")
    assert failures.begin("ada", 0.0) == 0
    assert failures.begin("ada", 0.0) > 0
    failures.take_back("ada", clear=True)
    assert len(failures) == 0
    failures.take_back("nobody")


def test_the_memory_is_bounded() -> None:
    failures = Failures(2, 600, max_keys=10)
    for n in range(1000):
        failures.begin(f"name-{n}" + "x" * 10_000, 0.0)
    assert len(failures) == 10
    assert max(map(len, failures._times)) == MAX_KEY


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_who_is_one_sender(address: str, sender: str) -> None:
    assert network_of(address) == sender


def test_many_at_once_are_no_more_tries_than_one_after_the_other() -> None:
    limits, admitted = Limits(5, 0, 600), []

    def attempt() -> None:
        attempt = Attempt(limits, "192.0.2.7")
        attempt.begin()
        try:
            attempt.admit("ada")
        except TooManyAttempts:
            return
        admitted.append(attempt)

    threads = [threading.Thread(target=attempt) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 5


def test_what_the_directory_did_not_judge_is_no_failure() -> None:
    limits = Limits(1, 1, 600)
    for _ in range(3):
        attempt = Attempt(limits, "192.0.2.7")
        attempt.begin()
        attempt.admit("ada")
        attempt.end()
    attempt.begin()
    attempt.admit("ada")
    attempt.failed = True
    attempt.end()
    with pytest.raises(TooManyAttempts, match=r"where you are.*in 10 minutes"):
        Attempt(limits, "192.0.2.7").begin()
    other = Attempt(limits, "192.0.2.8")
    other.begin()
    with pytest.raises(TooManyAttempts, match="for this name"):
        other.admit("ada")
