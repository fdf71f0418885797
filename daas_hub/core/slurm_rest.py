"""What slurmrestd is told of a job. It reads no ``#SBATCH`` line, so each of them becomes a field here. Pure.

Fields of an API version are those of its OpenAPI document; ``tests/servers/test_slurm_rest.py`` compares. A
line that has no field here is refused with its name: nothing is silently left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .sbatch_lines import OPTIONS, Line, header, words
from .slurm_override import minutes_of

OLD = "v0.0.38"
"""The last version before numbers became objects: SLURM 22.05's."""
VERSIONS = ("v0.0.42", "v0.0.41", "v0.0.40", OLD)
"""API versions whose fields are known here, the best first: SLURM 22.05, and 23.11 to 25.05."""
_PATH = re.compile(r"/slurm/(v\d+\.\d+\.\d+)/job/submit")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_MEMORY = re.compile(r"(\d{1,12})([KMGT]?)B?", re.ASCII | re.IGNORECASE)
_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}

Fields = dict[str, Any]
SHORT: Mapping[str, str] = {
    "A": "account", "C": "constraint", "G": "gpus", "J": "job-name", "L": "licenses", "N": "nodes", "d": "dependency",
    "c": "cpus-per-task", "n": "ntasks", "p": "partition", "q": "qos", "t": "time",
}  # fmt: skip
_TEXTS: Mapping[str, str] = {
    "account": "account", "constraint": "constraints", "dependency": "dependency", "job-name": "name",
    "licenses": "licenses", "partition": "partition", "qos": "qos", "reservation": "reservation", "wckey": "wckey",
    "mail-user": "mail_user",
}  # fmt: skip
_COUNTS: Mapping[str, str] = {"cpus-per-task": "cpus_per_task", "ntasks": "tasks", "nice": "nice"}
_SWITCHES: Mapping[str, Fields] = {"requeue": {"requeue": True}, "no-requeue": {"requeue": False}}
_REPLACED = frozenset({name for name, (fate, _) in OPTIONS.items() if fate is Line.REPLACED} | {"get-user-env"})
"""Options that the hub sets itself; the environment is always the hub's."""


def best(paths: Iterable[str]) -> str | None:
    """The best version that both sides know, by the paths of slurmrestd's OpenAPI document."""
    offered = {match[1] for path in paths if (match := _PATH.fullmatch(path))}
    return next((version for version in VERSIONS if version in offered), None)


@dataclass(frozen=True)
class RestJob:
    """A job for slurmrestd."""

    script: str
    name: str
    comment: str
    folder: str
    """Where it begins."""
    environment: Mapping[str, str]

    def body(self, version: str) -> Fields:
        """What is posted. Raises ValueError where a line of the script has no field."""
        asked = dict(fields(self.script, version))
        ours: Fields = {
            "name": asked.get("name") or self.name,
            "comment": self.comment,
            "current_working_directory": self.folder,
            # Its log is where the launch's folder is, which the script itself makes.
            "standard_output": "/dev/null",
        }
        if version == OLD:
            return {"script": self.script, "job": {**asked, **ours, "environment": dict(self.environment)}}
        listed = [f"{name}={value}" for name, value in self.environment.items()]
        return {"job": {**asked, **ours, "script": self.script, "environment": listed}}


def fields(script: str, version: str) -> Fields:
    """The fields of a script's ``#SBATCH`` lines; of two lines with one option the last one counts."""
    found: Fields = {}
    tres: list[str] = []
    for name, value in options(script):
        if name in _REPLACED:
            continue
        if version != OLD and name in ("gres", "gpus-per-node"):
            # Both became parts of one field.
            parts = value.split(",") if name == "gres" else [f"gpu:{value}"]
            tres += [part if part.startswith("gres/") else f"gres/{part}" for part in parts if part]
        else:
            found |= _field(name, value, version)
    return found | ({"tres_per_node": ",".join(tres)} if tres else {})


def _field(name: str, value: str, version: str) -> Fields:
    old = version == OLD
    if name in _TEXTS:
        return {_TEXTS[name]: value}
    if name in _SWITCHES and not (old and name == "no-requeue"):
        # 22.05 takes the field, and requeues all the same.
        return dict(_SWITCHES[name])
    if name in _COUNTS:
        return {_COUNTS[name]: int(_checked(_NUMBER, name, value)[0])}
    if name == "nodes":
        count = int(_checked(_NUMBER, name, value)[0])
        return {"nodes": [count, count]} if old else {"nodes": str(count)}
    if name == "time":
        minutes = minutes_of(value)
        if minutes is None:
            raise ValueError(f"--time={value} is no walltime")
        return {"time_limit": _number(math.ceil(minutes), old)}
    if name in ("mem", "mem-per-cpu"):
        number, unit = _checked(_MEMORY, name, value).groups()
        field = "memory_per_node" if name == "mem" else "memory_per_cpu"
        return {field: _number(math.ceil(int(number) * _MIB[unit.upper()]), old)}
    if name in ("gres", "gpus-per-node"):
        return {name.replace("-", "_"): value}
    if name == "gpus":
        return {"gpus": value} if old else {"tres_per_job": f"gres/gpu:{value}"}
    raise ValueError(f"--{name} cannot be told to slurmrestd {version}")


def _number(value: int, old: bool) -> Any:
    return value if old else {"set": True, "infinite": False, "number": value}


def _checked(pattern: re.Pattern[str], name: str, value: str) -> re.Match[str]:
    match = pattern.fullmatch(value)
    if match is None:
        raise ValueError(f"--{name}={value} cannot be read")
    return match


def options(script: str) -> Iterator[tuple[str, str]]:
    """Long name and value of each option in the script's header, in order. Raises ValueError for other words."""
    for line in header(script):
        if line.startswith("#SBATCH"):
            yield from _of_line(iter(words(line.removeprefix("#SBATCH"))))


def _of_line(rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    alone: Callable[[str], bool] = lambda name: name in _SWITCHES or name == "get-user-env"  # noqa: E731
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif len(word) > 1 and word[0] == "-" and word[1] in SHORT:
            name, value = SHORT[word[1]], word[2:]
            equals = "=" if value else ""
        else:
            raise ValueError(f"{word!r} cannot be told to slurmrestd")
        if not equals and not alone(name):
            value = next(rest, "")
        if not value and not alone(name):
            raise ValueError(f"{word!r} has no value")
        yield name, value
