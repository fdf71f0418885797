"""Our batch scripts beside those of an unmodified SlurmSpawner: they differ in the owned parts and nowhere else.

Hypothesis makes the configurations: settings, profiles' overrides, templates of the site. Nothing here asks a cluster.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
import shlex
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import jupyterhub.apihandlers
import pytest
from batchspawner import SlurmSpawner
from batchspawner.api import BatchSpawnerAPIHandler
from hypothesis import given, settings
from hypothesis import strategies as st
from traitlets.config import Config

from daas_hub.backends.slurm_script import build_script, check_settings, ours
from daas_hub.backends.slurm_traits import TABLE, Fate
from daas_hub.core import sbatch_lines, slurm_override
from daas_hub.core.errors import ConfigError, StartFailed
from daas_hub.core.models import Account, LaunchSpec, Resources
from daas_hub.core.naming import new_id

FOLDER, PYTHON = "/home/ada/.daas/x", "/usr/bin/python3"
CMD = f"{PYTHON} -I -S {FOLDER}/launch.py"
OURS = ours(CMD)
JINJA = """#!/bin/sh
#SBATCH --job-name=lab-{{username}}
#SBATCH --account={{account}} --qos={{qos}}
{% if ngpus %}#SBATCH --gpus={{ngpus}}{% endif %}
#SBATCH {{options}}
echo {{queue}} {{host}} {{cluster}} {{homedir}} {{keepvars}}
{{prologue}}
exec {{srun}} {{cmd}}
"""
FORMAT = """#!/bin/bash
#SBATCH --partition={partition} --time={runtime} --mem={memory} -c {nprocs}
#SBATCH --reservation={reservation} --gres={gres}
cd {homedir}
{prologue}
{cmd}
{epilogue}
"""
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,12}", fullmatch=True)
line = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f#-\\'\""), max_size=20)
shell = st.sampled_from(["", "module load lab", "echo {{cmd}}\necho {cmd}", "{% raw %}", "ulimit -c 0\ncd /tmp"])
times = st.sampled_from(["", "60", "1:00:00", "1-0", "90:30"])
gres = st.sampled_from(["", "gpu:1", "gpu:a100:2", "shard:4", "lustre:1,gpu:h100:1"])
VALUES: dict[str, st.SearchStrategy[str]] = {
    **dict.fromkeys((f"req_{key}" for key in (*slurm_override.NAMES, *slurm_override.LISTS)), names),
    "req_runtime": times,
    "req_gres": gres,
    "req_nprocs": st.integers(1, 99).map(str),
    "req_ngpus": st.integers(0, 9).map(str),
    "req_memory": st.sampled_from(["", "500", "4G", "0"]),
    "req_options": st.sampled_from(
        ["", "--exclusive", "--constraint='a&b' --nice=5", "-J x --mail-type=END", "--requeue"]
    ),
    "req_srun": st.sampled_from(["", "srun", "srun --cpu-bind=none", "exec"]),
    "req_keepvars_extra": st.sampled_from(["", "SLURM_CONF", "A,B_2"]),
    "req_prologue": shell,
    "req_epilogue": shell,
    "batch_script": st.sampled_from([SlurmSpawner.batch_script.default_value, JINJA, FORMAT]),
}
overrides = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((*slurm_override.NAMES, *slurm_override.LISTS), names),
        "runtime": times,
        "options": VALUES["req_options"],
        "srun": VALUES["req_srun"],
        "prologue": shell,
        "epilogue": shell,
    },
)


def config_of(values: dict[str, str], section: str = "SlurmSpawner") -> Config:
    config = Config()
    for name, value in values.items():
        config[section][name] = value
    return config


def spec_of(override: dict[str, Any] | None = None, **changes: Any) -> LaunchSpec:
    account = Account(
        new_id(), "ada", 20001, 20001, (), changes.pop("home", "/home/ada"), "/bin/sh", "t", datetime.now(UTC)
    )
    fields: dict[str, Any] = {
        "launch_id": new_id(),
        "hub_id": "hub",
        "account": account,
        "user_name": "Ada L.",
        "server_name": "",
        "resources": Resources(),
        "cmd": ("jupyterhub-singleuser",),
        "environment": {"JUPYTERHUB_USER": "ada", "LANG": "C"},
        "secrets": {"JUPYTERHUB_API_TOKEN": "t0ken"},
        "mounts": (),
        "service_prefix": "/user/ada/",
        "override": override or {},
    }
    return LaunchSpec(**{**fields, **changes})


def built(spec: LaunchSpec, config: Config) -> str:
    return asyncio.run(build_script(spec, config=config, folder=FOLDER, python=PYTHON))


def upstreams(spec: LaunchSpec, config: Config, **more: str) -> str:
    """What an unmodified one would submit, given the same account and a command of one's own."""
    user = SimpleNamespace(name=spec.user_name, url=spec.service_prefix)
    spawner = SlurmSpawner(config=copy.deepcopy(config), user=user, orm_spawner=SimpleNamespace(name="", server=None))
    spawner.req_username, spawner.req_homedir = spec.account.name, spec.account.home
    spawner.req_keepvars = ",".join(spec.environment)
    for key, value in {**(spec.override.get("slurm") or {}), **more}.items():
        setattr(spawner, f"req_{key}", value)
    return asyncio.run(spawner._get_batch_script(**spawner.get_req_subvars(), cmd=CMD))


def test_every_shaping_setting_is_generated() -> None:
    assert {name for name, (fate, _) in TABLE.items() if fate is Fate.HONOURED} == set(VALUES)


@settings(max_examples=300)
@given(values=st.fixed_dictionaries({}, optional=VALUES), override=overrides)
def test_scripts_differ_from_upstreams_in_the_owned_lines_only(
    values: dict[str, str], override: dict[str, str]
) -> None:
    config, spec = config_of(values), spec_of({"slurm": override} if override else None)
    script = built(spec, config)
    assert script.count(OURS) == 1
    theirs = upstreams(spec, config)
    head = "".join(f"{line}\n" for line in sbatch_lines.header(theirs))
    before, after = script.split(OURS)
    assert head + after == theirs
    # What is chosen counts, also where the template has no place for it: sbatch takes the last line.
    chosen = {option: override.get(key, "") for key, (option, _) in sbatch_lines.CHOSEN.items()}
    wanted = [f"#SBATCH --{option}={text}" for option, text in chosen.items() if text]
    more = before.removeprefix(head).splitlines()
    assert before.startswith(head)
    assert set(more) <= set(wanted)
    said = [word for line in before.splitlines()[1:] for word in sbatch_lines.words(line.removeprefix("#SBATCH"))]
    for line in wanted:
        option = line.removeprefix("#SBATCH ")
        assert [word for word in said if word.startswith(option.partition("=")[0] + "=")][-1] == option


@settings(max_examples=100)
@given(
    values=st.fixed_dictionaries({}, optional=VALUES),
    cores=st.one_of(st.none(), st.floats(0.1, 200)),
    mebibytes=st.one_of(st.none(), st.integers(1, 10**6)),
    gpus=st.integers(0, 8),
)
def test_resources_of_the_profile_stand_where_the_site_would_say_them(
    values: dict[str, str], cores: float | None, mebibytes: int | None, gpus: int
) -> None:
    config = config_of(values)
    more = {}
    if cores is not None:
        more["nprocs"] = str(int(-(-cores // 1)))
    if mebibytes is not None:
        more["memory"] = f"{mebibytes}M"
    if gpus:
        more["ngpus"], more["gres"] = str(gpus), slurm_override.with_gpus(values.get("req_gres", ""), gpus)
    bytes_ = None if mebibytes is None else mebibytes * 2**20 - 1
    spec = spec_of(resources=Resources(cpu_limit=cores, mem_limit_bytes=bytes_, gpus=gpus))
    assert built(spec, config).replace(OURS, "") == upstreams(spec, config, **more)


@settings(max_examples=200)
@given(
    key=st.sampled_from([*slurm_override.KEYS]), text=line, end=st.sampled_from(["", "\n#SBATCH --wrap=x", "\r", "\0"])
)
def test_no_value_makes_a_line_of_its_own_or_is_read_as_a_template(key: str, text: str, end: str) -> None:
    """Whatever the ledger has: what is not refused stands in the script as it is, in one line."""
    value = text + "{{ 7*7 }}{7}{% x %}" + end
    try:
        script = built(spec_of({"slurm": {key: value}}), config_of({"batch_script": JINJA}))
    except StartFailed:
        return
    assert key in slurm_override.SCRIPT
    assert "--wrap" not in script or key in slurm_override.SEVERAL_LINES
    if key not in ("epilogue", "keepvars_extra"):
        assert value in script


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if name.startswith("req_")])
def test_a_line_break_in_a_setting_of_the_site_is_refused(name: str) -> None:
    config = config_of({name: "x\n#SBATCH --uid=0"})
    if name.removeprefix("req_") in slurm_override.SEVERAL_LINES:
        check_settings(config)
        return
    with pytest.raises(ConfigError, match=rf"SlurmSpawner\.{name} is .*a line break"):
        check_settings(config)


@pytest.mark.parametrize("home", ["/home/a b", "/home/o'neil", '/home/"x"', "/home/$(id)", "/home/#1", "/home/ünï"])
def test_a_home_is_one_word_of_the_shell(home: str) -> None:
    script = built(spec_of(home=home), config_of({"batch_script": FORMAT}))
    (line,) = [line for line in script.split("\n") if line.startswith("cd ")]
    assert shlex.split(line) == ["cd", home]


@pytest.mark.parametrize("home", ["/home/a\nb", "/home/a\\b", "/home/\x7f"])
def test_a_home_that_cannot_be_written_is_refused(home: str) -> None:
    with pytest.raises(StartFailed) as caught:
        built(spec_of(home=home), Config())
    assert caught.value.permanent
    assert repr(home) in caught.value.log_message


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("#!/bin/bash\nsleep 1\n", r"has no \{\{cmd\}\}"),
        ("#!/bin/bash\n{{cmd}} {% if %}", "TemplateSyntaxError"),
        ("#!/bin/bash\n{cmd} {user_options}", "KeyError: 'user_options'"),
        ("#!/usr/bin/python3\n{{cmd}}", "must begin with the line of a POSIX shell"),
        ("#!/bin/bash\n#SBATCH --array=1-9\n{{cmd}}", "has --array: a launch is one job"),
        ("#!/bin/bash\n#SBATCH -J x -e err\n{{cmd}}", "has --error: the hub shows the log"),
        ("#!/bin/bash\n#SBATCH --job-name x --ui=0\n{{cmd}}", "has --uid: the account decides"),
        ("#!/bin/bash\n\n# x\n#SBATCH hetjob\n{{cmd}}", "hetjob"),
        ("#!/bin/bash\n#PBS -a 1\n{{cmd}}", "is read by sbatch, too"),
        ("#!/bin/bash\n#SLURM --uid=0\n{{cmd}}", "is read by sbatch, too"),
    ],
)
def test_a_template_that_cannot_be_used_stops_the_hub(template: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_settings(config_of({"batch_script": template}))


def test_a_line_of_a_template_without_effect_is_told() -> None:
    template = "#!/bin/bash\n#SBATCH --output=x.log --time=5\n#SBATCH -D /tmp\n{{cmd}}\n#SBATCH --wrap=not-a-header\n"
    told = check_settings(config_of({"batch_script": template}))
    assert [re.findall(r"has (--\S+): the hub's command line sets it, so it has no effect", one) for one in told] == [
        ["--output"],
        ["--chdir"],
    ]
    assert check_settings(Config()) == ()


def test_a_setting_of_the_wrong_type_is_named() -> None:
    with pytest.raises(ConfigError, match=r"c\.SlurmSpawner: .*req_nprocs"):
        check_settings(config_of({"req_nprocs": 4}))  # type: ignore[dict-item]


def test_gpus_for_every_job_are_told_because_no_limit_counts_them() -> None:
    (told,) = check_settings(config_of({"req_gres": "gpu:a100:1"}))
    assert "req_gres is 'gpu:a100:1'" in told
    assert check_settings(config_of({"req_gres": "lustre:1"})) == ()


def test_options_of_a_profile_are_judged_as_lines_of_the_site_are() -> None:
    for options in ("--wrap=id", "--comment=x", "-o /dev/null", "--exclusive --ar 1"):
        with pytest.raises(StartFailed, match="cannot be written"):
            built(spec_of({"slurm": {"options": options}}), Config())


def test_modules_are_loaded_after_the_sites_prologue_and_need_a_place() -> None:
    spec = spec_of({"software": {"modules": ["gcc/12", "R"]}})
    script = built(spec, config_of({"req_prologue": "source /site/init"}))
    assert (
        script.index("source /site/init") < script.index("for _daas_module in gcc/12 R;") < script.index(f"srun {CMD}")
    )
    with pytest.raises(StartFailed) as caught:
        built(spec, config_of({"batch_script": "#!/bin/sh\n{{cmd}}\n"}))
    assert "has no {{prologue}}" in caught.value.log_message


def test_no_secret_nor_users_option_is_in_a_script() -> None:
    origin = SimpleNamespace(
        user=SimpleNamespace(name="ada", url="/user/ada/"), orm_spawner=SimpleNamespace(name="", server=None), hub=None,
        parent=None, authenticator=None, user_options={"partition": "forged", "cmd": "forged"},
    )  # fmt: skip
    script = built(spec_of(origin=origin), Config())
    assert "forged" not in script
    assert "t0ken" not in script
    assert script.replace(OURS, "") == upstreams(spec_of(), Config())


def test_batchspawners_route_is_taken_out_of_the_hub() -> None:
    """Importing it adds one by which a server sets any attribute of its spawner; the builder's module removes it."""
    routes = [route[1] for route in jupyterhub.apihandlers.default_handlers]
    assert BatchSpawnerAPIHandler not in routes
    assert len(routes) > 20
    assert "default_handlers.append" in inspect.getsource(inspect.getmodule(BatchSpawnerAPIHandler))  # type: ignore[arg-type]
