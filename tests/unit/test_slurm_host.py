"""The version of a host's programs and its clock, judged beside the controllers'."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.slurm_host import clock_problem, controllers_time, version_problem

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
S = timedelta(seconds=1)


def test_the_controllers_time() -> None:
    assert controllers_time("Configuration data as of 1772366400\nClusterName = c\n") == NOW
    for text in ("", "Configuration data as of 2026-03-01T12:00:00\n", "slurm_load_ctl_conf error: x\n"):
        with pytest.raises(ValueError, match="controller's time"):
            controllers_time(text)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (NOW, ""),
        (NOW + 14 * S, ""),
        (NOW - 6 * S, ""),
        (NOW + 17 * S, "7 s behind the controller's; 5 s are allowed"),
        (NOW - 8 * S, "7 s ahead of the controller's; 5 s are allowed"),
    ],
)
def test_a_clock_is_judged_by_what_must_have_gone_by(told: datetime, words: str) -> None:
    """The question took ten seconds: that much nobody knows."""
    assert clock_problem(told, NOW, NOW + 10 * S) == (f"this clock is {words}" if words else "")


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ("slurm-wlm 22.05.8\n", "22.05.8", True),
        ("slurm 23.11.4-1", "24.11.5", True),
        ("slurm 24.11.5", "24.11.0-0rc1", True),
        ("slurm 24.11.5", "24.05.2", False),
        ("slurm-wlm 22.05.8", "21.08.5", False),
    ],
)
def test_programs_may_be_older_and_not_newer(ours: str, theirs: str, fits: bool) -> None:
    assert (version_problem(ours, theirs) == "") is fits
    with pytest.raises(ValueError, match="no versions"):
        version_problem("slurm", theirs)
