"""configure(c): sets what it owns, keeps what the operator set, says what is wrong."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from daas_hub import configure
from daas_hub.core.errors import ConfigError
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.spawner import DaasSpawner
from daas_hub.wiring.configuration import OWNED
from daas_hub.wiring.judging import certificate_names, check_names


def test_owned_settings_are_set_and_an_operators_values_stay() -> None:
    c = Config()
    c.JupyterHub.cleanup_servers = True
    c.JupyterHub.services = [{"name": "other"}]
    c.JupyterHub.load_roles = [{"name": "other"}]
    configure(c)
    assert c.JupyterHub.cleanup_servers is True
    for section, values in OWNED.items():
        for trait, value in values.items():
            if trait != "cleanup_servers":
                assert c[section][trait] == value
    assert next(s["name"] for s in c.JupyterHub.services) == "other"
    assert next(r["name"] for r in c.JupyterHub.load_roles) == "other"


def test_overrides_are_set_last_and_their_form_is_checked() -> None:
    c = Config()
    configure(c, JupyterHub__cleanup_servers=True, DaasHub__hub_id="beam")
    assert c.JupyterHub.cleanup_servers is True
    assert c.DaasHub.hub_id == "beam"
    with pytest.raises(ConfigError, match="Class__trait=value"):
        configure(c, hub_id="beam")


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    c = Config()
    c.DaasHub.ledger_uri = "sqlite:///x"
    with pytest.raises(ConfigError, match=r"c\.DaasHub\.ledger_uri .* Did you mean ledger_url"):
        check_names(c, [DaasHub])


@pytest.mark.parametrize("section", ["Spawner", "DaasSpawner"])
def test_names_that_servers_would_share_are_refused(section: str) -> None:
    c = Config()
    assert list(certificate_names(c, DaasSpawner)) == []
    c[section].ssl_alt_names = ["DNS:node.example"]
    assert [problem.split()[0] for problem in certificate_names(c, DaasSpawner)] == [f"c.{section}.ssl_alt_names"]


@pytest.mark.parametrize("hub_id", ["", "A", "a b", "x" * 41, "a---b", "../x"])
def test_a_hub_id_that_cannot_be_a_name_is_refused(hub_id: str) -> None:
    with pytest.raises(ConfigError, match=r"DaasHub\.hub_id"):
        DaasHub(hub_id=hub_id)


def test_a_relative_ledger_is_made_absolute_for_services() -> None:
    assert DaasHub(ledger_url="sqlite:///x.sqlite").absolute_ledger_url().startswith("sqlite:////")
    url = "postgresql+psycopg://u@h/n"
    assert DaasHub(ledger_url=url).absolute_ledger_url() == url


def test_a_hub_that_was_never_checked_starts_nothing() -> None:
    site = DaasHub()
    with pytest.raises(ConfigError, match=r"no server is started.*configure\(c\)"):
        site.require_checks()
    site.checked = True
    site.require_checks()
