"""No setting of KubeSpawner is silently ignored: each has its line in the table, and the table is in the reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jupyterhub.spawner import Spawner
from kubespawner import KubeSpawner
from traitlets.config import Config

from daas_hub.backends.child import check_settings
from daas_hub.backends.kube_traits import TABLE, Fate
from daas_hub.core.errors import ConfigError

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "kubernetes-backend.md"


def test_every_setting_of_the_installed_kubespawner_is_in_the_table() -> None:
    own = set(KubeSpawner.class_trait_names(config=True)) - set(Spawner.class_trait_names(config=True))
    assert own == set(TABLE)


def test_the_reference_shows_the_table() -> None:
    shown = re.findall(r"^\| `(\w+)` \| (honoured|replaced|refused) \| (.*?) \|$", REFERENCE.read_text(), re.M)
    assert {name: (fate, why) for name, fate, why in shown} == {
        name: (fate.value, why) for name, (fate, why) in TABLE.items()
    }


@pytest.mark.parametrize("name", sorted(name for name, (fate, _) in TABLE.items() if fate is not Fate.HONOURED))
def test_what_is_not_honoured_refuses_to_start_and_says_why(name: str) -> None:
    config = Config()
    config.KubeSpawner[name] = "x"
    with pytest.raises(ConfigError, match=f"KubeSpawner.{name} .*{re.escape(TABLE[name][1])}"):
        check_settings(config)


def test_honoured_and_general_settings_pass() -> None:
    config = Config()
    config.KubeSpawner.image = "site/lab:1"
    config.KubeSpawner.environment = {"A": "1"}
    check_settings(config)


def test_a_misspelt_setting_is_named() -> None:
    config = Config()
    config.KubeSpawner.node_selectr = {"a": "b"}
    with pytest.raises(ConfigError, match=r"node_selectr is unknown\. Was node_selector meant"):
        check_settings(config)
