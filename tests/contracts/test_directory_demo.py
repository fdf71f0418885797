"""The contract of directories on the demo's own listener: what the demo shows is the sign-in of production."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.clients.directory import Address, DirectorySettings
from daas_hub.demo import people
from daas_hub.demo.directory import DirectoryListener
from daas_hub.demo.tree import Tree
from tests.contracts.directory import DirectoryContract, DirectorySite, Known
from tests.contracts.test_directory_slapd import GROUP_FILTER, USER_FILTER


def known(site: people.Site, person: people.Person) -> Known:
    """A person of the demo."""
    return Known(
        name=person.name,
        password=person.password,
        uid=person.uid,
        gid=person.gid,
        home=person.home,
        shell="/bin/sh",
        display_name=person.display_name,
        mail=f"{person.name}@demo.example",
        groups={group: site.gids[group] for group in person.groups},
    )


class TestDemoListener(DirectoryContract):
    @pytest.fixture
    async def site(self) -> AsyncIterator[DirectorySite]:
        cast = people.cast(Path("/srv/homes"), shared_uid=None)
        listener = DirectoryListener(Tree(people.BASE, people.entries(cast)))
        await listener.start()
        settings = DirectorySettings(
            name="demo",
            address=Address(uri=listener.url, allow_plaintext=True),
            bind_dn=people.SERVICE_DN,
            bind_password=cast.service_password,
            user_search_base=f"ou=people,{people.BASE}",
            user_filter=USER_FILTER,
            name_attribute="uid",
            group_search_base=f"ou=groups,{people.BASE}",
            group_filter=GROUP_FILTER,
        )
        locked = next(p for p in cast.people if p.locked)
        site = DirectorySite(settings, known(cast, cast.people[0]), known(cast, locked))
        yield site
        site.close()
        await listener.stop()
