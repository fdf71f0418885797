"""Whether a claim code is honoured: tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from daas_hub.core.handout import FIRST_S, LONGEST_S, token_set
from daas_hub.core.site_tokens import Held, files_of
from daas_hub.core.slurm_claims import WORDS, Claim, Verdict, claim_of, claimed_by, digest, goes_on, judged, knows
from daas_hub.core.slurm_jobs import Job
from daas_hub.core.slurm_launches import find_job
from tests.unit.test_slurm_launches import JOB, NOW, RECORDED

CODE, BEGAN = "c0de", NOW.timestamp()
NEW = Claim(digest(CODE))
USED = Claim(digest(CODE), BEGAN, digest("first"))
LATER = replace(JOB, started_at=NOW + timedelta(minutes=3))


def test_only_the_code_itself_is_known() -> None:
    assert knows(NEW, CODE)
    for claim, code in ((NEW, "c0df"), (NEW, ""), (NEW, digest(CODE)), (None, CODE), (None, "")):
        assert not knows(claim, code)
    assert CODE not in str(NEW.saved())


@pytest.mark.parametrize(
    ("claim", "by", "job", "verdict"),
    [
        (NEW, "first", JOB, Verdict.GIVEN),
        (NEW, "first", replace(JOB, state="CONFIGURING"), Verdict.GIVEN),
        # An answer was lost: the same process may ask again, nobody else.
        (USED, "first", JOB, Verdict.AGAIN),
        (USED, "second", JOB, Verdict.USED),
        (USED, "", JOB, Verdict.USED),
        # It was requeued: the new run counts, and an earlier one no more.
        (USED, "second", LATER, Verdict.GIVEN),
        (replace(USED, run=BEGAN + 180), "first", JOB, Verdict.USED),
        (NEW, "first", replace(JOB, state="PENDING", started_at=None), Verdict.NOT_RUNNING),
        (USED, "first", replace(JOB, state="PENDING", started_at=None), Verdict.NOT_RUNNING),
        (NEW, "first", replace(JOB, state="SUSPENDED"), Verdict.NOT_RUNNING),
        (NEW, "first", replace(JOB, state="COMPLETING"), Verdict.NOT_RUNNING),
        (NEW, "first", replace(JOB, state="COMPLETED"), Verdict.NOT_RUNNING),
        (NEW, "first", replace(JOB, state="NEW_WORD"), Verdict.NOT_RUNNING),
        (NEW, "first", None, Verdict.NO_JOB),
        # The id is another account's job now.
        (NEW, "first", find_job({7: replace(JOB, uid=20002)}, RECORDED), Verdict.NO_JOB),
    ],
)
def test_a_code_counts_once_in_each_run_of_its_job(claim: Claim, by: str, job: Job | None, verdict: Verdict) -> None:
    assert judged(claim, by, job) is verdict
    assert (verdict in WORDS) is (verdict not in (Verdict.GIVEN, Verdict.AGAIN))


def test_who_has_claimed_is_known_by_its_own_secret() -> None:
    assert claimed_by(USED, "first")
    # A code that nobody has used yet is no secret of anybody's, nor is the code itself.
    for claim, by in ((USED, "second"), (USED, ""), (USED, CODE), (NEW, ""), (NEW, CODE), (None, "first"), (None, "")):
        assert not claimed_by(claim, by)


@pytest.mark.parametrize(
    ("job", "goes"),
    [
        (JOB, True),
        (replace(JOB, state="SUSPENDED"), True),
        (replace(JOB, state="COMPLETING"), True),
        (LATER, False),
        (replace(JOB, state="PENDING", started_at=None), False),
        (replace(JOB, state="COMPLETED"), False),
        (None, False),
    ],
)
def test_what_was_claimed_in_a_run_is_good_while_that_goes_on(job: Job | None, goes: bool) -> None:
    assert goes_on(USED, job) is goes
    assert not goes_on(NEW, job)


@pytest.mark.parametrize(
    ("margin_s", "again_s"),
    [(0.5, 1.0), (6, 2.0), (120, 40.0), (1e6, LONGEST_S)],
)
def test_who_fetches_tokens_asks_twice_before_one_is_over(margin_s: float, again_s: float) -> None:
    held = {"a": Held("t", 0, NOW.timestamp() + 300), "b": Held("u", 0, NOW.timestamp() + 100)}
    files = files_of(held, {"c": "why"})
    told = token_set(files, now=NOW.timestamp(), margin_s=margin_s)
    # The whole set goes with the first of them.
    assert told.told() == {"files": files, "again_s": again_s, "over_in_s": 100.0}
    late = token_set(files, now=NOW.timestamp() + 200, margin_s=margin_s)
    assert late.over_in_s == 0
    assert token_set({"c.missing": "why"}, now=0, margin_s=margin_s).over_in_s is None


def test_the_first_set_is_asked_for_soon() -> None:
    assert token_set(None, now=0, margin_s=120).told() == {"files": {}, "again_s": FIRST_S, "over_in_s": None}


@pytest.mark.parametrize("claim", [NEW, USED])
def test_what_is_written_down_is_read_again(claim: Claim) -> None:
    assert claim_of(claim.saved()) == claim


@pytest.mark.parametrize("saved", [None, {}, {"code": 1, "run": None, "by": ""}, {"code": "x", "run": "", "by": ""}])
def test_what_cannot_be_read_is_no_code(saved: dict[str, object] | None) -> None:
    assert claim_of(saved) is None
