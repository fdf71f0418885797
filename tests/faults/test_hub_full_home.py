"""A home without a free byte, on a real hub: JupyterLab starts there, is told of it, and stops."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.faults.aftermath import faulty_site, watched_site
from tests.faults.small_disk import SmallDisk, small_disk
from tests.flow.site import Site
from tests.servers.reachable_python import singleuser

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(240)]


@pytest.fixture
def site() -> Iterator[Site]:
    """With real JupyterLab servers."""
    made = watched_site(cmd=[singleuser()])
    yield made
    # What it could not remove itself while a disk was mounted there.
    shutil.rmtree(made.root, ignore_errors=True)


@pytest.fixture
def home(site: Site) -> Iterator[SmallDisk]:
    """Ada's, full."""
    ada = site.person("ada")
    with small_disk(site.home("ada"), size_mib=8, uid=ada.uid, gid=ada.gid) as disk:
        disk.fill()
        yield disk


async def test_a_server_starts_in_a_full_home_and_leaves_nothing(site: Site, home: SmallDisk) -> None:
    async with faulty_site("ada", site=site):
        status, answer = await site.hub.start_server("ada")
        assert status in (201, 202), answer
        (pid,) = site.servers("ada")
        (row,) = site.launches()
        assert row.handle is not None
        assert row.handle["pid"] == pid
        assert any(warning.startswith("home_nearly_full") for warning in row.handle["warnings"])
        assert (await site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204)
        assert os.statvfs(home.path).f_bavail == 0, "the home was full all the time"
        # The end's look starts another one there, and keeps it running.
