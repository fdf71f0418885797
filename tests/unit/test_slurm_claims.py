"""Whether a claim code is honoured: tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from daas_hub.core.slurm_claims import WORDS, Claim, Verdict, claim_of, digest, judged, knows
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


@pytest.mark.parametrize("claim", [NEW, USED])
def test_what_is_written_down_is_read_again(claim: Claim) -> None:
    assert claim_of(claim.saved()) == claim


@pytest.mark.parametrize("saved", [None, {}, {"code": 1, "run": None, "by": ""}, {"code": "x", "run": "", "by": ""}])
def test_what_cannot_be_read_is_no_code(saved: dict[str, object] | None) -> None:
    assert claim_of(saved) is None
