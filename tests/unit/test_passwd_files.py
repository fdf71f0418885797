"""passwd and group lines that an account gets where NSS does not know it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas_hub.clients import passwd_files
from daas_hub.core.models import Account, AccountGroup

ZORA = Account(
    id="1",
    name="zora",
    uid=54321,
    gid=54322,
    groups=(AccountGroup("zora", 54322), AccountGroup("crew", 54323)),
    home="/home/zora",
    shell="/bin/sh",
    source="test",
    fetched_at=datetime(2026, 1, 1, tzinfo=UTC),
    display_name="Zora",
)
PASSWD = "root:x:0:0:root:/root:/bin/bash\nzora:x:1001:1001::/home/other:/bin/sh\nold:x:54321:1::/:/bin/sh\nrubbish\n"
GROUP = "root:x:0:\ncrew:x:1002:somebody\nusers:x:100:\nx:x:54322:\n"


def test_her_lines_replace_what_contradicts_them() -> None:
    passwd, group = passwd_files.with_lines(ZORA, PASSWD, GROUP)
    assert passwd == "root:x:0:0:root:/root:/bin/bash\nzora:x:54321:54322:Zora:/home/zora:/bin/sh\n"
    assert group == "root:x:0:\nusers:x:100:\nzora:x:54322:zora\ncrew:x:54323:zora\n"


@given(st.text(max_size=300), st.text(max_size=80))
def test_no_name_makes_another_line_or_field(display_name: str, group_name: str) -> None:
    account = replace(ZORA, display_name=display_name, groups=(AccountGroup(group_name, 54322),))
    passwd, group = passwd_files.with_lines(account, "", "")
    assert len(passwd.splitlines()) == 1
    assert len(passwd.split(":")) == 7
    assert passwd.split(":")[2] == "54321"
    assert len(group.splitlines()) == 1
    assert group.split(":")[2] == "54322"
    passwd.encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "zo:ra"},
        {"name": "zora\nroot"},
        {"name": ""},
        {"home": "/home/z:/x"},
        {"home": "zora"},
        {"home": "/home/../etc"},
        {"home": ""},
        {"shell": "/bin/sh\n"},
        {"shell": ""},
    ],
)
def test_facts_that_cannot_stand_in_a_line_are_refused(changes: dict[str, str]) -> None:
    assert passwd_files.unfit(ZORA) == ""
    assert passwd_files.unfit(replace(ZORA, **changes))


def test_nss_must_agree_on_everything() -> None:
    root = replace(ZORA, name="root", uid=0, gid=0, groups=(AccountGroup("root", 0),), home="/root")
    assert passwd_files.known(root)
    assert not passwd_files.known(replace(root, name="zora-whom-nobody-knows"))
    assert not passwd_files.known(replace(root, home="/home/root"))
    assert not passwd_files.known(replace(root, groups=(AccountGroup("x", 54323),)))
    assert not passwd_files.known(replace(root, uid=54321))
