"""core/slurm_override.py and sbatch_lines.py: what profiles may ask of SLURM, and what a person may type."""

from __future__ import annotations

from typing import Any

import pytest

from daas_hub.core import sbatch_lines
from daas_hub.core.errors import ConfigError, InvalidOptions
from daas_hub.core.models import LaunchRequest, Resource, Resources
from daas_hub.core.profile_config import read_profiles
from daas_hub.core.profiles import combined, default_layer, missing_limits
from daas_hub.core.sbatch_lines import Line, judged, words
from daas_hub.core.slurm_override import checked, gpus_of, minutes_of, with_gpus
from daas_hub.spawners import options


def profiles_of(**keys: Any) -> Any:
    return read_profiles([{"display_name": "Basic", **keys}])


def request_of(**keys: Any) -> LaunchRequest:
    (profile,) = profiles_of(**keys)
    return combined(profile, [], {})


def typed(template: dict[str, str], text: str) -> LaunchRequest:
    """What a person gets who types a text into an option with this ``slurm_override``."""
    option = {"display_name": "X", "unlisted_choice": {"enabled": True, "slurm_override": template}}
    asked = {"profile": "basic", "x--unlisted-choice": text}
    return options.parse(asked, profiles_of(profile_options={"x": option}), ())


# ---------------------------------------------------------------- profiles


def test_what_slurm_alone_understands_goes_beside_kubespawners_settings() -> None:
    request = request_of(
        kubespawner_override={"image": "lab:1"},
        slurm_override={"partition": "gpu,any", "runtime": 90, "prologue": "echo\n"},
        software={"modules": ["gcc/12"]},
    )
    assert request.override == {
        "image": "lab:1",
        "slurm": {"partition": "gpu,any", "runtime": "90", "prologue": "echo\n"},
        "software": {"modules": ["gcc/12"], "venv": None, "apptainer": None},
    }


def test_what_counts_against_limits_becomes_a_resource() -> None:
    request = request_of(slurm_override={"nprocs": "4", "memory": "4000", "gres": "gpu:a100:2,lustre:1"})
    assert request.resources == Resources(cpu_limit=4, mem_limit_bytes=4000 * 2**20, gpus=2)
    assert request.override == {"slurm": {"gres": "gpu:a100:2,lustre:1"}}
    assert request_of(slurm_override={"memory": "4G", "ngpus": 1}).resources == Resources(mem_limit_bytes=2**32, gpus=1)
    assert request_of(resources={"gpus": 1}, slurm_override={"gres": "gpu"}).resources.gpus == 1


def test_a_choice_replaces_values_one_by_one_and_software_as_a_whole() -> None:
    choice = {
        "display_name": "C",
        "slurm_override": {"qos": None, "account": "beam", "gres": "gpu:4"},
        "software": {"apptainer": "/images/lab.sif"},
    }
    (profile,) = profiles_of(
        slurm_override={"qos": "long", "partition": "gpu", "gres": "gpu:a100:1"},
        software={"venv": "/sw/jupyter"},
        profile_options={"o": {"display_name": "O", "choices": {"c": choice}}},
    )
    layer = default_layer(profile)
    assert layer.override == {
        "slurm": {"partition": "gpu", "account": "beam", "gres": "gpu:4"},
        "software": {"apptainer": "/images/lab.sif"},
    }
    assert layer.as_resources().gpus == 4


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"slurm_override": {"partitions": "x"}}, r"slurm_override\.partitions is unknown\. Was partition meant"),
        ({"slurm_override": {"partition": "a b"}}, r"slurm_override\.partition is 'a b': a name has letters"),
        ({"slurm_override": {"account": "a,b"}}, r"slurm_override\.account is 'a,b'"),
        ({"slurm_override": {"qos": "x\n#SBATCH --uid=0"}}, r"slurm_override\.qos is 'x\\n"),
        ({"slurm_override": {"qos": ["x"]}}, "list; text is needed"),
        ({"slurm_override": {"runtime": "soon"}}, r"runtime is 'soon': it must be minutes"),
        ({"slurm_override": {"runtime": "0:30"}}, "from 1 to 527040 minutes"),
        ({"slurm_override": {"runtime": "367-0"}}, "from 1 to 527040 minutes"),
        ({"slurm_override": {"gres": "gpu:one,"}}, r"it must be name\[:type\]\[:count\]"),
        ({"slurm_override": {"nprocs": 0.5}}, "a whole number is needed"),
        ({"slurm_override": {"memory": "much"}}, "is not a size"),
        ({"slurm_override": {"options": "--uid=0"}}, "it has --uid: the account decides"),
        ({"slurm_override": {"options": "--nice\n--x"}}, "one line is needed"),
        ({"slurm_override": {"srun": "srun\n"}}, "one line is needed"),
        ({"slurm_override": {"keepvars_extra": "A;B"}}, "names of variables"),
        ({"slurm_override": {"prologue": "a\0"}}, "shell text without NUL"),
        ({"slurm_override": {"homedir": "/"}}, "is an owned key: the account decides"),
        ({"slurm_override": {"cmd": "sh"}}, "is an owned key"),
        ({"slurm_override": ["x"]}, "a dict is needed"),
        (
            {"slurm_override": {"nprocs": 1}, "resources": {"cpu_limit": 2}},
            "cpu_limit is set here and in slurm_override",
        ),
        ({"slurm_override": {"gres": "gpu:2"}, "resources": {"gpus": 1}}, "names 2 GPUs, but gpus is 1"),
        ({"slurm_override": {"gres": "gpu:2", "ngpus": 3}}, "names 2 GPUs, but gpus is 3"),
        ({"kubespawner_override": {"slurm": {}}}, "write slurm_override beside kubespawner_override"),
        ({"kubespawner_override": {"software": {}}}, "write software beside"),
        ({"software": "gcc"}, "a dict is needed"),
        ({"software": {"conda": "x"}}, r"software\.conda is unknown; allowed are modules, venv, apptainer"),
        ({"software": {"modules": []}}, "a list of 1 to 50 names"),
        ({"software": {"modules": ["gcc; id"]}}, "a module's name has"),
        ({"software": {"modules": ["-x"]}}, "a module's name has"),
        ({"software": {"venv": "sw"}}, "an absolute path is needed"),
        ({"software": {"venv": "/a:/b"}}, "a colon separates folders"),
        ({"software": {"apptainer": "lab.sif"}}, "absolute path of an image"),
        ({"software": {"apptainer": "docker://a b"}}, "absolute path of an image"),
        ({"software": {"apptainer": "/a", "venv": "/b"}}, "has venv and apptainer"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_what_is_allowed(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        profiles_of(**keys)


# ---------------------------------------------------------------- what a person types


def test_a_text_fills_a_checked_value() -> None:
    assert typed({"runtime": "{value}:00:00"}, "12").override == {"slurm": {"runtime": "12:00:00"}}
    assert typed({"nprocs": "{value}"}, "12").resources.cpu_limit == 12
    assert typed({"gres": "gpu:{value}"}, "3").resources.gpus == 3


@pytest.mark.parametrize(
    ("template", "text", "says"),
    [
        ({"runtime": "{value}:00:00"}, "9999999", r"x--unlisted-choice: slurm_override\.runtime is '9999999:.*527040"),
        ({"partition": "{value}"}, "gpu --uid=0", r"slurm_override\.partition is 'gpu --uid=0': a name"),
        ({"account": "p-{value}"}, "$(id)", r"slurm_override\.account is 'p-\$\(id\)'"),
        ({"reservation": "{value}"}, "x'y", r"slurm_override\.reservation is \"x'y\""),
        ({"nprocs": "{value}"}, "-1", r"slurm_override\.nprocs is '-1': a whole number"),
        ({"nprocs": "{value}"}, "٣", r"a whole number"),
        ({"memory": "{value}"}, "9e9", r"is not a size"),
        ({"memory": "{value}G"}, "99999999", "cannot be used for mem_limit"),
        ({"ngpus": "{value}"}, "999999999", "cannot be used for gpus"),
        ({"qos": "{value}"}, "{{cmd}}", "braces"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_the_value_and_the_bound(template: dict[str, str], text: str, says: str) -> None:
    with pytest.raises(InvalidOptions, match=says) as caught:
        typed(template, text)
    assert caught.value.field == "x--unlisted-choice"


@pytest.mark.parametrize("key", ["options", "srun", "prologue", "epilogue", "keepvars_extra"])
def test_no_text_of_a_person_is_part_of_a_shell_script(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"slurm_override\.{key} is part of a shell script"):
        typed({key: "a {value}"}, "x")


def test_a_text_that_sets_cores_counts_as_saying_them() -> None:
    option = {"display_name": "X", "unlisted_choice": {"enabled": True, "slurm_override": {"nprocs": "{value}"}}}
    assert not missing_limits(profiles_of(profile_options={"x": option}), [Resource.CORES])
    assert missing_limits(profiles_of(profile_options={"x": option}), [Resource.MEMORY_BYTES])


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 90.5), ("1:30:00", 90), ("2-0", 2880), ("1-12:30", 2190), ("1-0:0:30", 1440.5), ("1-", None),
     ("UNLIMITED", None), ("1:2:3:4", None), ("-5", None)],
)  # fmt: skip
def test_walltimes_are_read_as_slurm_reads_them(text: str, minutes: float | None) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize(
    ("gres", "gpus", "with_three"),
    [("", None, "gpu:3"), ("gpu", 1, "gpu:3"), ("gpu:2", 2, "gpu:3"), ("gpu:a100:2", 2, "gpu:a100:3"),
     ("lustre:1,gpu:h100:1", 1, "lustre:1,gpu:h100:3"), ("gpu:a:1,gpu:b:2", 3, "gpu:a:1,gpu:b:2"),
     ("gpu:a:1,gpu:b:1", 2, "gpu:a:3")],
)  # fmt: skip
def test_gpus_in_a_list_of_resources(gres: str, gpus: int | None, with_three: str) -> None:
    assert gpus_of(gres) == gpus
    assert with_gpus(gres, 3) == with_three
    assert gpus_of(with_gpus(gres, 0)) is None


def test_an_empty_text_takes_the_sites_value_out() -> None:
    assert [checked(key, "") for key in ("partition", "gres", "runtime", "account", "options")] == [""] * 5


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("line", "split"),
    [
        (" --a=b  -c d", ["--a=b", "-c", "d"]),
        ("--a='b c' \"d e\"", ["--a=b c", "d e"]),
        (r"'a\ b' 'c\'d' x\"y", ["a b", "c'd", 'x"y']),
        (r"--job-name=x\ --uid=0", ["--job-name=x", "--uid=0"]),
        ("a\u00a0b\tc", ["a\u00a0b", "c"]),
        ("a #b", ["a"]),
        ("a'#'b", ["a#b"]),
        ("''", [""]),
    ],
)
def test_words_of_a_line(line: str, split: list[str]) -> None:
    assert words(line) == split


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("--exclusive --constraint='a|b' --no-requeue -Jo", []),
        ("--time=5 -J name -p gpu -c2 --mem=1G --requeue --comm", [(Line.REPLACED, "comment")]),
        ("--out x", [(Line.REPLACED, "output")]),
        ("--e", [(Line.REFUSED, "error"), (Line.REPLACED, "export"), (Line.REFUSED, "export-file")]),
        ("-HQ", [(Line.REFUSED, "quiet")]),
        ("-Ho log", [(Line.REPLACED, "output")]),
        ("'--wr''ap=x y'", [(Line.REFUSED, "wrap")]),
        ("--job-name '--wrap is no option'", []),
        ("--array", [(Line.REFUSED, "array")]),
    ],
)
def test_our_options_are_found_as_sbatch_would(line: str, found: list[tuple[Line, str]]) -> None:
    told = [(fate, text.partition("--")[2].partition(":")[0]) for fate, text in judged(line)]
    assert told == found


def test_only_lines_before_the_first_command_count() -> None:
    script = "#!/bin/sh\n\n# a\n#SBATCH --time=1\n  \necho\n#SBATCH --wrap=x\n"
    assert sbatch_lines.header(script) == ["#!/bin/sh", "", "# a", "#SBATCH --time=1", "  "]
    assert sbatch_lines.remarks(script) == ()
