"""No setting of SlurmSpawner is silently ignored: each has its line in the table, and the table is in the reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from batchspawner import SlurmSpawner
from jupyterhub.spawner import Spawner
from traitlets.config import Config

from daas_hub.backends.slurm_script import check_settings
from daas_hub.backends.slurm_traits import NOT_SETTINGS, TABLE, Fate
from daas_hub.core import sbatch_lines, slurm_override
from daas_hub.core.errors import ConfigError

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "slurm-jobs.md").read_text()


def test_every_setting_of_the_installed_slurmspawner_is_in_the_table() -> None:
    own = set(SlurmSpawner.class_trait_names(config=True)) - set(Spawner.class_trait_names(config=True))
    changed = {"ip", "start_timeout"}
    """Of every spawner, but with another meaning or default in batchspawner."""
    assert own | changed == set(TABLE)
    variables = {name for name in SlurmSpawner.class_trait_names() if name.startswith("req_")}
    assert variables == {name for name in TABLE if name.startswith("req_")} | set(NOT_SETTINGS)


def test_the_reference_shows_the_table() -> None:
    shown = re.findall(r"^\| `(\w+)` \| (honoured|replaced|refused) \| (.*?) \|$", REFERENCE, re.M)
    assert {name: (fate, why) for name, fate, why in shown} == {
        name: (fate.value, why) for name, (fate, why) in TABLE.items()
    }
    for name, what in NOT_SETTINGS.items():
        assert f"| `{name}` | {what} |" in REFERENCE


def test_the_reference_shows_the_lines_of_a_script_that_are_ours() -> None:
    shown = re.findall(r"^\| `--([\w-]+)` \| (replaced|refused) \| (.*?) \|$", REFERENCE, re.M)
    assert {name: (fate, why) for name, fate, why in shown} == {
        name: (fate.value, why) for name, (fate, why) in sbatch_lines.OPTIONS.items()
    }


def test_profiles_have_all_variables_of_the_template_that_are_settings() -> None:
    assert {name.removeprefix("req_") for name in TABLE if name.startswith("req_")} == set(slurm_override.KEYS)
    assert {name.removeprefix("req_") for name in NOT_SETTINGS} < set(slurm_override.OWNED)
    section = REFERENCE.partition("## slurm_override")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section, re.M)
    assert {word.strip("`") for row in shown for word in row.split(", ")} == set(slurm_override.KEYS)


@pytest.mark.parametrize("name", sorted(name for name, (fate, _) in TABLE.items() if fate is not Fate.HONOURED))
@pytest.mark.parametrize("section", ["SlurmSpawner", "BatchSpawnerBase"])
def test_what_is_not_honoured_refuses_to_start_and_says_why(name: str, section: str) -> None:
    config = Config()
    config[section][name] = "x"
    with pytest.raises(ConfigError, match=f"{section}.{name} .*{re.escape(TABLE[name][1])}"):
        check_settings(config)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("req_homedir", "it is the account's home"),
        ("cmd", "has no effect here: set DaasSpawner.cmd"),
        ("environment", "has no effect here: set DaasSpawner.environment"),
        ("req_partitions", r"is unknown\. Was req_partition meant"),
    ],
)
def test_what_belongs_elsewhere_is_named(name: str, says: str) -> None:
    config = Config()
    config.SlurmSpawner[name] = "x"
    with pytest.raises(ConfigError, match=says):
        check_settings(config)
