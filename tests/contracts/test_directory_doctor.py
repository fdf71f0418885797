"""`daas-hub doctor` asks each server of a real directory by itself, and says what mends what it finds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from daas_hub.auth.ldap import DaasLDAPAuthenticator
from daas_hub.cli.doctor_directory import directory
from daas_hub.cli.finding import Finding
from daas_hub.clients.directory_look import ahead
from tests.servers.ports import free_port
from tests.servers.slapd import BASE, SERVICE_DN, Slapd, certificates

pytestmark = pytest.mark.needs("slapd")


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    server = asyncio.run(Slapd(tmp_path_factory.mktemp("slapd"), Path("/home")).start())
    yield server
    asyncio.run(server.stop())


def found(slapd: Slapd, **more: Any) -> list[Finding]:
    site = {
        "server_uris": [slapd.uri],
        "tls_ca_file": str(slapd.ca_file),
        "bind_dn": SERVICE_DN,
        "bind_password_file": str(slapd.password_file),
        "user_search_base": f"ou=people,{BASE}",
        "group_search_base": f"ou=groups,{BASE}",
    }
    config = Config({"DaasLDAPAuthenticator": {**site, **more}})
    return list(directory(DaasLDAPAuthenticator, config, 15))


def test_each_server_is_asked_by_itself(slapd: Slapd) -> None:
    gone = f"ldap://127.0.0.1:{free_port()}"
    findings = found(slapd, server_uris=[gone, slapd.tls_uri], backup_server_uris=[slapd.uri])
    by_server = {f.what.removeprefix("directory "): f.level for f in findings if "certificate ends" not in f.found}
    assert by_server == {gone: "error", slapd.tls_uri: "ok", slapd.uri: "ok"}
    # The tests' certificates are made for two days.
    ends = [f for f in findings if "certificate ends in 1 days" in f.found]
    assert {f.what.removeprefix("directory ") for f in ends} == {slapd.tls_uri, slapd.uri}


def test_what_mends_it_is_said(slapd: Slapd, tmp_path: Path) -> None:
    certificates(tmp_path)
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    elsewhere = [slapd.uri.replace("127.0.0.1", "127.0.0.2")]
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"tls_ca_file": str(tmp_path / "ca.pem")}, "certificate verify failed", "tls_ca_file"),
        ({"server_uris": elsewhere}, "", "check server"),
        ({"bind_password_file": str(wrong)}, "is refused", "bind_password_file"),
        ({"user_search_base": f"ou=nowhere,{BASE}"}, "finds nothing at user_search_base", "correct user_search_base"),
        ({"group_search_base": f"ou=nowhere,{BASE}"}, "at group_search_base", "correct group_search_base"),
    ]
    for setting, words, mend in cases:
        errors = [f for f in found(slapd, **setting) if f.level == "error"]
        assert len(errors) == 1, (setting, errors)
        assert words in errors[0].found
        assert mend in errors[0].fix


def test_the_clock_of_active_directory_is_read() -> None:
    now = datetime(2026, 11, 21, 12, 10, tzinfo=UTC)
    assert ahead("20261121120000.0Z", now) == 600
    assert ahead("20261121122000.0Z", now) == -600
    assert ahead("yesterday", now) is None
    assert ahead(None, now) is None
