"""``slurm_override`` and ``software`` of a profile: what SLURM is asked for, by SlurmSpawner's names without ``req_``.

Every value is checked here, whoever wrote it: what a person typed fills only ``{value}`` of an ``unlisted_choice``, and
never a key that is part of a shell script.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from .sbatch_lines import judged
from .units import parse_bytes

Complain = Callable[[str, str], Exception]

NAMES = ("account", "cluster", "host", "qos", "queue")
LISTS = ("partition", "reservation")
"""Several names, separated by commas, may stand here: SLURM takes the one that starts first."""
COUNTED: Mapping[str, str] = {"nprocs": "cpu_limit", "memory": "mem_limit", "ngpus": "gpus"}
"""Key → the resource of the profile that it becomes, because it counts against limits."""
SCRIPT = ("options", "srun", "keepvars_extra", "prologue", "epilogue")
"""Parts of the script itself: the site writes them, never a person who starts a server."""
SEVERAL_LINES = ("prologue", "epilogue")
KEYS = (*NAMES, *LISTS, "runtime", "gres", *COUNTED, *SCRIPT)
OWNED: Mapping[str, str] = {
    "username": "the account decides who a job runs as",
    "homedir": "the account decides which home it has",
    "keepvars": "the server's variables come from the hub, not from sbatch",
    "cmd": "the server's command is kubespawner_override.cmd or DaasSpawner.cmd",
    "batch_script": "it is the site's: c.SlurmSpawner.batch_script",
}
"""Keys that nobody may set, with the reason."""
SOFTWARE = ("modules", "venv", "apptainer")

MAX_NAMES, MAX_MODULES, MAX_LINE, MAX_SCRIPT = 20, 50, 2000, 100_000
LONGEST_MIN = 366 * 24 * 60
"""Of a walltime, in minutes."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}", re.ASCII)
_GRES = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,63}(:[A-Za-z_][A-Za-z0-9_.-]{0,63})?(:[1-9][0-9]{0,5})?", re.ASCII)
_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/@=-]{0,127}", re.ASCII)
_VARIABLES = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(,[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
_URI = re.compile(r"(docker|oras|library|https)://[A-Za-z0-9][A-Za-z0-9._:/@+-]*", re.ASCII)
_TIME = re.compile(
    r"(?:(?P<days>\d{1,4})-)?(?P<first>\d{1,7})(?::(?P<second>\d{1,7}))?(?::(?P<third>\d{1,7}))?", re.ASCII
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


# ---------------------------------------------------------------- slurm_override


def read(given: Mapping[str, Any], complain: Complain) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a ``slurm_override`` asks of SLURM as text, and of it what is a resource of the profile.

    None takes a value away again. Raises what ``complain`` makes of (key, problem).
    """
    texts: dict[str, Any] = {}
    resources: dict[str, Any] = {}
    for key, value in given.items():
        where = f"slurm_override.{key}"
        if key in OWNED:
            raise complain(where, f"is an owned key: {OWNED[key]}.")
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f" Was {near[0]} meant?" if near else ""
            raise complain(where, f"is unknown.{hint} Allowed are {', '.join(KEYS)}.")
        try:
            if key in COUNTED:
                resources[COUNTED[key]] = None if value is None else _counted(key, value)
            else:
                texts[key] = None if value is None else checked(key, value)
        except ValueError as error:
            raise complain(where, f"is {value!r:.100}: {error}") from error
    return texts, resources


def checked(key: str, value: object) -> str:
    """The text of one value, as it may stand in a script; raises ValueError with what is allowed."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{type(value).__name__}; text is needed.")
    text = str(value)
    if key in SCRIPT:
        return _script(key, text)
    if key == "runtime":
        return _runtime(text)
    if key == "gres":
        if text and not all(_GRES.fullmatch(part) for part in text.split(",")):
            raise ValueError("it must be name[:type][:count], several ones separated by commas.")
        return text
    parts = text.split(",") if key in LISTS else [text]
    if text and (len(parts) > MAX_NAMES or not all(_NAME.fullmatch(part) for part in parts)):
        several = f"; up to {MAX_NAMES} may stand here, separated by commas" if key in LISTS else ""
        raise ValueError(
            f"a name has letters, digits, _ . + @ -, begins with a letter, a digit or _, at most 128{several}."
        )
    return text


def _script(key: str, text: str) -> str:
    if key in SEVERAL_LINES:
        if "\0" in text or "\r" in text or len(text) > MAX_SCRIPT:
            raise ValueError(f"shell text without NUL or carriage return is needed, at most {MAX_SCRIPT} characters.")
        return text
    if _CONTROL.search(text) or len(text) > MAX_LINE:
        raise ValueError(f"one line is needed, without control characters, at most {MAX_LINE}.")
    if key == "keepvars_extra" and text and not _VARIABLES.fullmatch(text):
        raise ValueError("names of variables are needed, separated by commas.")
    if key == "options" and (found := next(judged(text), None)):
        raise ValueError(f"it {found[1]}.")
    return text


def _runtime(text: str) -> str:
    """A walltime in SLURM's forms; the bounds are a minute and a year."""
    if not text:
        return text
    minutes = minutes_of(text)
    if minutes is None:
        raise ValueError("it must be minutes, or m:s, h:m:s, d-h, d-h:m, d-h:m:s.")
    if not 1 <= minutes <= LONGEST_MIN:
        raise ValueError(f"it must be from 1 to {LONGEST_MIN} minutes (366 days).")
    return text


def minutes_of(text: str) -> float | None:
    """A walltime in minutes; None where SLURM would not read it so."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    days, first, second, third = (None if one is None else int(one) for one in match.groups())
    if days is not None:
        return days * 1440 + (first or 0) * 60 + (second or 0) + (third or 0) / 60
    if third is not None:
        return (first or 0) * 60 + (second or 0) + third / 60
    return (first or 0) + (second or 0) / 60


def _counted(key: str, value: object) -> Any:
    """The value of a resource; ``core.layers`` checks its bounds."""
    if key == "memory":
        if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
            # SLURM's unit where none is given.
            return parse_bytes(f"{value}M")
        return parse_bytes(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < (1 if key == "nprocs" else 0):
        raise ValueError("a whole number is needed.")
    return value


def gpus_of(gres: str) -> int | None:
    """How many GPUs a list of generic resources names; None where it names none."""
    counts = []
    for part in gres.split(","):
        name, *rest = part.split(":")
        if name == "gpu":
            counts.append(int(rest[-1]) if rest and rest[-1].isdigit() else 1)
    return sum(counts) if counts else None


def with_gpus(gres: str, count: int) -> str:
    """A list of generic resources with this many GPUs, of the kind that it names, if any; 0 takes them out."""
    if gpus_of(gres) == count:
        return gres
    parts = [part for part in gres.split(",") if part]
    kinds = [part.split(":") for part in parts if part.split(":")[0] == "gpu"]
    kind = [word for word in (kinds[0][1:2] if kinds else []) if not word.isdigit()]
    others = [part for part in parts if part.split(":")[0] != "gpu"]
    return ",".join([*others, ":".join(["gpu", *kind, str(count)])] if count else others)


# ---------------------------------------------------------------- software


def read_software(value: object, complain: Complain) -> dict[str, Any]:
    """Where a server's programs come from: every way with its value, or None.

    All are named, so that the ``software`` of a choice replaces that of its profile as a whole.
    """
    if not isinstance(value, Mapping):
        raise complain("software", f"is {type(value).__name__}; a dict is needed.")
    if unknown := sorted(set(value) - set(SOFTWARE), key=str):
        raise complain(f"software.{unknown[0]}", f"is unknown; allowed are {', '.join(SOFTWARE)}.")
    if value.get("venv") is not None and value.get("apptainer") is not None:
        raise complain("software", "has venv and apptainer: one of them brings the server.")
    result: dict[str, Any] = dict.fromkeys(SOFTWARE)
    for key, one in value.items():
        if one is None:
            continue
        try:
            result[key] = _modules(one) if key == "modules" else _venv(one) if key == "venv" else _image(one)
        except ValueError as error:
            raise complain(f"software.{key}", f"is {one!r:.100}: {error}") from error
    return result


def _modules(value: object) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not 0 < len(names) <= MAX_MODULES:
        raise ValueError(f"a list of 1 to {MAX_MODULES} names of modules is needed.")
    for name in names:
        if not isinstance(name, str) or not _MODULE.fullmatch(name):
            raise ValueError("a module's name has letters, digits, _ . + / @ = -, at most 128.")
    return list(names)


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or _CONTROL.search(value) or ".." in value.split("/"):
        raise ValueError("an absolute path is needed, without .. and control characters.")
    return value


def _venv(value: object) -> str:
    path = _path(value)
    if ":" in path:
        raise ValueError("a colon separates folders in PATH: it cannot stand in one.")
    return path


def _image(value: object) -> str:
    if isinstance(value, str) and _URI.fullmatch(value):
        return value
    try:
        return _path(value)
    except ValueError as error:
        raise ValueError(
            "the absolute path of an image is needed, or docker://, oras://, library:// or https://."
        ) from error
