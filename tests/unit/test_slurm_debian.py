"""The folder of Debian 13 that has SLURM 24.11: from where it comes, and what is left when it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.slurm import debian

PLANNED = """
'http://one.test/debian-security/dists/bookworm-security/InRelease' one.test_debian-security_InRelease 0
'http://two.test/debian/dists/bookworm-updates/InRelease' two.test_debian_dists_bookworm-updates_InRelease 0
'http://two.test/debian/dists/bookworm/InRelease' two.test_debian_dists_bookworm_InRelease 0
'https://three.test/dists/bookworm/InRelease' three.test_dists_bookworm_InRelease 0
"""
MMDEBSTRAP = """#!/bin/sh
for word; do case $word in */root) root=$word;; esac; done
mkdir -p "$root/usr"
echo "$@" >> "$DAAS_CACHE/asked"
cat "${0%/*}/fails" && exit 25
exit 0
"""


@pytest.mark.parametrize(
    ("release", "planned", "mirror"),
    [
        ("bookworm", PLANNED, ["http://two.test/debian"]),
        ("bookworm", PLANNED.replace("two.test/debian/dists", "two.test/debian//dists"), ["http://two.test/debian"]),
        ("trixie", PLANNED, []),
        ("bookworm", "", []),
    ],
)
def test_the_mirror_is_this_machines(release: str, planned: str, mirror: list[str]) -> None:
    assert debian.mirror_of(release, planned) == mirror


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH with an mmdebstrap that makes next to nothing, and an unshare that needs no rights."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("mmdebstrap", MMDEBSTRAP), ("unshare", '#!/bin/sh\nshift\nexec "$@"\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("DAAS_CACHE", str(tmp_path / "cache"))
    return folder


def test_it_is_made_once_and_whole(programs: Path, tmp_path: Path) -> None:
    (programs / "fails").write_text("E: no such mirror\n")
    assert debian.possible()
    for _ in range(2):
        with pytest.raises(debian.DebianFailed, match=r"(?s)ended with 25.*make\.log.*no such mirror"):
            debian.ensure()
        assert not debian.made()
    (programs / "fails").unlink()
    assert debian.ensure() == debian.ensure()
    assert debian.made()
    asked = (tmp_path / "cache" / "asked").read_text().splitlines()
    assert len(asked) == 3
    assert all("slurmctld,slurmd," in words and f" {debian.SUITE} " in words for words in asked)


def test_without_mmdebstrap_only_what_is_there_serves(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian.ensure()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert debian.possible()
    monkeypatch.setenv("DAAS_CACHE", str(programs))
    assert not debian.possible()
