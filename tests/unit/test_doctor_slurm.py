"""By which name jobs reach the hub, and whether its certificate has it, as ``daas-hub doctor`` says it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from traitlets.config import Config

from daas_hub.cli.doctor_slurm import hub_name, named_partitions

HUB = "https://hub.example.org:8081"
TLS = {"internal_ssl": True, "trusted_alt_names": ["DNS:hub.example.org", "IP:192.0.2.7"]}


@pytest.mark.parametrize(
    ("settings", "level", "found", "fix"),
    [
        ({}, "note", "their own node", "hub_connect_url"),
        ({"hub_bind_url": "http://localhost:8081", **TLS}, "note", "their own node", "hub_connect_url"),
        ({"hub_bind_url": "http://127.3.4.5:8081", **TLS}, "note", "their own node", "hub_connect_url"),
        ({"hub_bind_url": "http://[::1]:8081", **TLS}, "note", "their own node", "hub_connect_url"),
        ({"hub_connect_url": HUB}, "note", "not encrypted", "internal_ssl"),
        ({"hub_connect_url": HUB, **TLS}, "ok", "by the name hub.example.org", ""),
        ({"hub_bind_url": HUB, **TLS}, "ok", "by the name hub.example.org", ""),
        ({"hub_bind_url": "http://127.0.0.1:8081", "hub_connect_url": HUB, **TLS}, "ok", "by the name", ""),
        ({"hub_connect_url": "https://192.0.2.7:8081", **TLS}, "ok", "by the name 192.0.2.7", ""),
        ({"hub_connect_url": HUB, "internal_ssl": True}, "error", "does not name", "DNS:hub.example.org"),
        ({"hub_connect_url": "https://192.0.2.8:8081", **TLS}, "error", "does not name", "IP:192.0.2.8"),
    ],
)
def test_the_name_by_which_jobs_reach_the_hub(
    settings: dict[str, Any], level: str, found: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "login1.example.org")
    finding = hub_name(Config({"JupyterHub": settings}), "backend slurm")
    assert finding.level == level, finding
    assert found in finding.found
    assert fix in finding.fix


@pytest.mark.parametrize(("full", "level"), [("login1", "ok"), ("login1.example.org", "error")])
def test_who_listens_everywhere_is_reached_by_the_hosts_own_name(
    full: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its short one; JupyterHub's certificate has its full one."""
    monkeypatch.setattr(socket, "gethostname", lambda: "login1")
    monkeypatch.setattr(socket, "getfqdn", lambda: full)
    finding = hub_name(Config({"JupyterHub": {"hub_bind_url": "http://0.0.0.0:8081", **TLS}}), "backend slurm")
    assert (finding.level, "add DNS:login1 " in finding.fix) == (level, level == "error")


def test_partitions_are_named_by_profiles_choices_and_the_site() -> None:
    config = Config()
    config.SlurmSpawner.req_partition = "cpu"
    by_hand = {"unlisted_choice": {"enabled": True, "slurm_override": {"partition": "{value}"}}}
    chosen = {"choices": {"a": {"slurm_override": {"partition": "long,short"}}}}
    config.DaasSpawner.profile_list = [
        {"slug": "a", "slurm_override": {"partition": "gpu"}, "profile_options": {"x": chosen, "y": by_hand}},
        {"slug": "b", "backend": ["slurm:big", "other:small", "slurm"]},
        {"slug": "c", "backend": "slurm:one", "slurm_override": {"partition": None}},
    ]
    assert named_partitions(config, "slurm") == {"cpu", "gpu", "long", "short", "big", "one"}
    assert named_partitions(Config(), "slurm") == set()
