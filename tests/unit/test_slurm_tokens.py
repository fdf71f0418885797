"""Site tokens of jobs: where the next set is made, and who removes what is over while the hub is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daas_hub.backends.slurm_tokens import next_part
from daas_hub.clients.home_tasks import remove_over
from daas_hub.core.models import Json
from daas_hub.core.site_tokens import Held, files_of


@pytest.mark.parametrize(
    ("saved", "part"),
    [
        (None, "a"),
        ({"part": "a", "done": True}, "b"),
        ({"part": "b", "done": True}, "a"),
        # It was begun, and nobody knows how far it came: the other one may be in use.
        ({"part": "b", "done": False}, "b"),
        ({"part": "x"}, "a"),
    ],
)
def test_the_next_set_is_made_where_none_is_in_use(saved: Json | None, part: str) -> None:
    assert next_part(saved) == part


def test_what_is_over_is_removed_without_a_hub(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ends = {"storage": now - timedelta(seconds=1), "batch": now + timedelta(hours=1)}
    held = {name: Held("t", 0.0, end.timestamp()) for name, end in ends.items()}
    files = files_of(held, {"vault": "why"}) | {"odd": "t", "odd.expires": "never"}
    real, link = tmp_path / "set", tmp_path / "site_tokens"
    real.mkdir()
    link.symlink_to(real)
    for name, text in files.items():
        (real / name).write_text(text)
    assert remove_over({"site_tokens": str(link)}) == {}
    assert {path.name for path in real.iterdir()} == {"batch", "batch.expires", "vault.missing"}
    assert remove_over({"site_tokens": str(tmp_path / "none")}) == {}
