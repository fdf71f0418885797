"""`daas-hub doctor` looks at every way to sign in, and says what lies between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from daas_hub.auth.break_glass import line_of
from daas_hub.auth.multi import DaasAuthenticator
from daas_hub.cli import doctor_ways
from daas_hub.cli.doctor import examine
from daas_hub.cli.doctor_directory import directory
from daas_hub.cli.doctor_oidc import provider
from daas_hub.cli.finding import Finding
from tests.servers.link_site import LinkSite

pytestmark = pytest.mark.needs("slapd")
Said = set[tuple[str, str]]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LinkSite]:
    """Its directory and providers; no hub."""
    made = LinkSite(tmp_path)
    for server in (made.slapd, made.first, made.second):
        await server.start()
    yield made
    for server in (made.slapd, made.first, made.second):
        await server.stop()


async def findings(site: LinkSite, ways: list[dict[str, Any]], **more: Any) -> list[Finding]:
    config = Config({"DaasAuthenticator": {"ways": ways, **more}})

    def look() -> list[Finding]:
        # As the command does: without a loop of its own.
        asked = [*directory(DaasAuthenticator, config, 5.0), *provider(DaasAuthenticator, config, 5.0)]
        lists = doctor_ways.lists(DaasAuthenticator, config)
        return [*asked, *lists, *doctor_ways.linking(DaasAuthenticator, config)]

    return await asyncio.to_thread(look)


def said(found: list[Finding]) -> Said:
    return {(finding.level, finding.what) for finding in found}


async def test_each_way_is_asked_and_named(site: LinkSite, tmp_path: Path) -> None:
    secret, glass = tmp_path / "secret", tmp_path / "glass"
    secret.write_text("x")
    secret.chmod(0o600)
    ways = site.ways(str(secret))
    ways[1]["settings"]["link_by"] = {"claim": "person", "directory": "site", "attribute": "employeeNumber"}
    slapd, first, second = f"directory site {site.slapd.uri}", "identity provider first", "identity provider second"
    assert said(await findings(site, ways)) == {
        ("ok", slapd),
        # The certificate of the tests is good for two days.
        ("note", slapd),
        ("ok", first),
        ("ok", second),
        ("note", "linking first"),
        ("ok", "linking second"),
        ("note", "linking"),
        ("note", "break-glass"),
    }
    glass.write_text(line_of("glass", "a long local password") + "\n")
    glass.chmod(0o600)
    site.second.faults["keys"] = 500
    await site.slapd.stop()
    mail = {"mail_host": "127.0.0.1", "mail_sender": "hub@site.test", "mail_tls": "none"}
    assert said(await findings(site, ways, break_glass_file=str(glass), **mail)) == {
        ("error", slapd),
        ("ok", first),
        ("error", second),
        ("note", "linking first"),
        ("ok", "linking second"),
        ("ok", "break-glass"),
    }


async def test_a_server_that_dns_does_not_know(site: LinkSite, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    ways = site.ways(str(secret))[:1]
    ways[0]["settings"]["server_uris"] = ["ldaps://nowhere.invalid"]
    (found,) = [finding for finding in await findings(site, ways) if finding.level == "error"]
    assert "DNS does not know it" in found.fix


async def test_without_a_directory_that_is_told(site: LinkSite, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    ways = [way for way in site.ways(str(secret)) if way["kind"] == "oidc"]
    ways[0]["settings"]["allowed_groups"] = {"lab"}
    secret.chmod(0o644)
    found = await findings(site, ways)
    assert ("note", "linking") in said(found)
    assert ("note", "directory") in said(found)
    assert all(finding.fix for finding in found if finding.what == "linking")
    # Everybody reads the secret; by the second nobody is let in.
    notes = [(finding.what, finding.found) for finding in found if finding.level == "note"]
    assert [what for what, text in notes if "mode 0644" in text] == [
        "identity provider first",
        "identity provider second",
    ]
    assert [what for what, text in notes if "nobody is let in" in text] == ["identity provider second"]


def test_a_class_that_is_not_installed_is_named_with_what_brings_it(tmp_path: Path) -> None:
    settings = tmp_path / "hub.py"
    settings.write_text('c = get_config()\nc.JupyterHub.authenticator_class = "daas_hub.auth.nothing.Here"\n')
    (found,) = examine(settings)
    assert (found.level, found.what) == ("error", "configuration")
    assert "extras ldap and oidc" in found.fix
