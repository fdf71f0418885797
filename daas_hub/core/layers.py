"""What one profile or one choice sets, and how a later one is laid over it.

``kubespawner_override`` is taken apart here: what counts against limits or is the same on every backend goes into
fields of our own, what only Kubernetes understands stays. Owned keys (design.md §6) are refused with their names.
"""

from __future__ import annotations

import difflib
import math
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import slurm_override
from .models import Resources
from .units import parse_bytes

NUMBERS = ("cpu_limit", "cpu_guarantee")
SIZES = ("mem_limit", "mem_guarantee")
RESOURCE_KEYS = (*NUMBERS, *SIZES, "gpus")
FOLDED = (*NUMBERS, *SIZES, "environment")
"""Keys of kubespawner_override that become fields of a LaunchRequest."""

BESIDE: Mapping[str, str] = {"slurm": "slurm_override", "software": "software"}
"""Keys of a layer's override that come from other keys of a profile: what SLURM alone understands."""

_IDENTITY = "the account decides who a server runs as"
_SECURITY = "every server runs with the same, fixed security context"
_CLAIMS = "volumes are planned from the account, and never deleted with a server"
_NAMES = "the hub names what it creates, so that no name can collide"
_HUB = "the hub sets it"
OWNED: Mapping[str, str] = {
    **dict.fromkeys(("uid", "gid", "fs_gid", "supplemental_gids"), _IDENTITY),
    **dict.fromkeys(
        ("pod_security_context", "container_security_context", "privileged", "allow_privilege_escalation"), _SECURITY
    ),
    **dict.fromkeys(("enable_user_namespaces", "service_account", "automount_service_account_token"), _SECURITY),
    **dict.fromkeys(
        ("delete_pvc", "pvc_name", "pvc_name_template", "remember_pvc_name", "storage_pvc_ensure"), _CLAIMS
    ),
    **dict.fromkeys(("secret_name", "secret_name_template", "secret_mount_path"), _NAMES),
    **dict.fromkeys(("namespace", "user_namespace_template", "pod_name", "pod_name_template"), _NAMES),
    **dict.fromkeys(("dns_name_template", "slug_scheme", "modify_pod_hook", "after_pod_created_hook"), _HUB),
    **dict.fromkeys(("env", "env_keep", "api_token", "port", "ip", "hub", "user", "orm_spawner"), _HUB),
    **dict.fromkeys(("oauth_client_id", "oauth_roles", "oauth_client_allowed_scopes", "oauth_access_scopes"), _HUB),
    **dict.fromkeys(("server_token_scopes", "cert_paths", "ssl_alt_names", "internal_ssl", "profile_list"), _HUB),
    **dict.fromkeys(("start_timeout", "http_timeout", "user_options", "pre_spawn_hook", "post_stop_hook"), _HUB),
}
"""Keys of kubespawner_override that nobody may set, with the reason."""

OWNED_IN_POD: Mapping[str, str] = {
    **dict.fromkeys(("securitycontext", "hostpid", "hostipc", "hostnetwork", "hostusers"), _SECURITY),
    **dict.fromkeys(("serviceaccountname", "serviceaccount", "automountserviceaccounttoken"), _SECURITY),
}
"""The same inside extra_pod_config, extra_container_config and container lists; letters only, lower case."""
_POD_PARTS = ("extra_pod_config", "extra_container_config", "init_containers", "extra_containers")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
PLACE = re.compile(rf"{_NAME.pattern}(?::[A-Za-z0-9_][A-Za-z0-9_.+@-]{{0,127}})?", re.ASCII)
"""A backend, or one partition of it: ``slurm:gpu``."""
SAFE_START = "DAAS_SAFE_START"
"""The one variable with our prefix that a profile may set: the images read it (docs/reference/images.md)."""
MAX_DEPTH = 30
MAX_BYTES = 2**50
MAX_COUNT = 100_000
"""Of cores and of GPUs: beyond any machine, and safe in every database."""

Complain = Callable[[str, str], Exception]
"""(key, what is wrong) → the exception to raise: ConfigError at start-up, InvalidOptions for a text of a user."""


@dataclass(frozen=True)
class Layer:
    """What one profile or one choice sets. A key that is absent leaves what the layer below says."""

    resources: Mapping[str, float | int | None] = field(default_factory=dict)
    """Fields of ``Resources``; None takes a limit away again."""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """None takes a variable away again."""
    volumes: tuple[str, ...] = ()
    backends: tuple[str, ...] | None = None
    override: Mapping[str, Any] = field(default_factory=dict)

    def under(self, top: Layer) -> Layer:
        """This layer with ``top`` laid over it: single values replaced, dicts merged, volumes added."""
        return Layer(
            resources={**self.resources, **top.resources},
            environment={**self.environment, **top.environment},
            volumes=tuple(dict.fromkeys((*self.volumes, *top.volumes))),
            backends=self.backends if top.backends is None else top.backends,
            override=merged(self.override, top.override),
        )

    def as_resources(self) -> Resources:
        """The resources of a server that has just this layer. Raises ValueError where more is kept than allowed."""
        values: dict[str, Any] = {k: v for k, v in self.resources.items() if v is not None}
        for kind, limit, guarantee in (
            ("CPU", "cpu_limit", "cpu_guarantee"),
            ("memory", "mem_limit_bytes", "mem_guarantee_bytes"),
        ):
            if values.get(guarantee, 0) > values.get(limit, math.inf):
                raise ValueError(f"{kind}: the guarantee {values[guarantee]} is above the limit {values[limit]}")
        return Resources(**values)


def merged(below: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """KubeSpawner's way to lay one override over another: dicts merge, and there None removes a key."""
    result = dict(below)
    for key, value in top.items():
        if isinstance(value, Mapping):
            old = result.get(key)
            inner = merged(old if isinstance(old, Mapping) else {}, value)
            result[key] = {k: v for k, v in inner.items() if v is not None}
        else:
            result[key] = value
    return result


def read_layer(raw: Mapping[str, Any], complain: Complain) -> Layer:
    """The layer in ``kubespawner_override``, ``slurm_override``, ``software``, ``resources``, ``environment``,
    ``volumes`` and ``backend`` of ``raw``."""
    given = _mapping(raw, "kubespawner_override", complain)
    check_override(given, complain)
    resources = _mapping(raw, "resources", complain)
    environment = _mapping(raw, "environment", complain)
    if unknown := sorted(set(resources) - set(RESOURCE_KEYS), key=str):
        raise complain(f"resources.{unknown[0]}", f"is unknown; allowed are {', '.join(RESOURCE_KEYS)}.")
    folded = {k: given[k] for k in FOLDED if k in given}
    beside, asked = _beside(raw, complain)
    inner_environment = _mapping(folded, "environment", complain)
    folded.pop("environment", None)
    if twice := [*(set(folded) & set(resources)), *(set(inner_environment) & set(environment))]:
        raise complain(str(twice[0]), "is set here and in kubespawner_override: set it once.")
    if several := sorted(set(asked) & {*folded, *resources}):
        raise complain(several[0], "is set here and in slurm_override: set it once.")
    return Layer(
        resources=_resources({**asked, **folded, **resources}, complain),
        environment=_environment({**inner_environment, **environment}, complain),
        volumes=names(raw.get("volumes", ()), "volumes", complain),
        backends=_backends(raw["backend"], complain) if "backend" in raw else None,
        override={**{k: v for k, v in given.items() if k not in FOLDED}, **beside},
    )


def _beside(raw: Mapping[str, Any], complain: Complain) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes beside KubeSpawner's settings, for SLURM alone, and the resources that it names."""
    texts, asked = slurm_override.read(_mapping(raw, "slurm_override", complain), complain)
    beside: dict[str, Any] = {"slurm": texts} if texts else {}
    named = slurm_override.gpus_of(texts.get("gres") or "")
    given = asked.get("gpus", (raw.get("resources") or {}).get("gpus", named))
    if named != given and named is not None:
        raise complain("slurm_override.gres", f"names {named} GPUs, but gpus is {given!r:.20} here.")
    if named is not None and "gpus" not in (raw.get("resources") or {}):
        asked["gpus"] = named
    if raw.get("software") is not None:
        beside["software"] = slurm_override.read_software(raw["software"], complain)
    return beside, asked


def _mapping(raw: Mapping[str, Any], key: str, complain: Complain) -> Mapping[str, Any]:
    value = raw.get(key) or {}
    if not isinstance(value, Mapping):
        raise complain(key, f"is {type(value).__name__}; a dict is needed.")
    return value


def _resources(raw: Mapping[str, Any], complain: Complain) -> dict[str, float | int | None]:
    result: dict[str, float | int | None] = {}
    for key, value in raw.items():
        try:
            if key in SIZES:
                result[f"{key}_bytes"] = None if value is None else _positive(parse_bytes(value), value)
            elif key in NUMBERS:
                result[key] = None if value is None else _cores(value)
            else:
                result[key] = _count(value)
        except ValueError as error:
            raise complain(key, f"cannot be used: {error}") from error
    return result


def _positive(number: int, value: object) -> int:
    if not 0 < number <= MAX_BYTES:
        raise ValueError(f"{value!r} must be more than 0 and at most 1024 TiB. For no limit leave it out.")
    return number


def _cores(value: object) -> float:
    problem = (
        f"{value!r} is not a number of cores: it must be more than 0, such as 0.5 or 4; for no limit leave it out."
    )
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(problem)
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(problem) from error
    if not 0 < number <= MAX_COUNT:
        raise ValueError(problem)
    return number


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{value!r} is not a number of GPUs: it must be a whole number, 0 or more.")
    return value


def _environment(raw: Mapping[str, Any], complain: Complain) -> dict[str, str | None]:
    result: dict[str, str | None] = {}
    for name, value in raw.items():
        key = f"environment.{name}"
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise complain(key, "is not the name of a variable: letters, digits and _ are allowed.")
        if name.upper().startswith(("JUPYTERHUB_", "JPY_", "DAAS_")) and name != SAFE_START:
            raise complain(key, "is an owned key: the hub sets JUPYTERHUB_*, JPY_* and DAAS_* itself.")
        if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
            raise complain(key, f"is {type(value).__name__}; text is needed (or None, which takes it away again).")
        if "\0" in str(value):
            raise complain(key, "contains a NUL character.")
        result[name] = None if value is None else str(value)
    return result


def names(value: object, key: str, complain: Complain, pattern: re.Pattern[str] = _NAME) -> tuple[str, ...]:
    """A list of names of things the site has (volumes, backends); one name may stand without its list."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise complain(key, f"is {type(value).__name__}; a list of names is needed.")
    for item in items:
        if not isinstance(item, str) or not pattern.fullmatch(item):
            raise complain(
                key, f"has {item!r}, which is not a name: letters, digits, . _ - and at most 63 are allowed."
            )
    return tuple(dict.fromkeys(items))


def _backends(value: object, complain: Complain) -> tuple[str, ...]:
    backends = names(value, "backend", complain, PLACE)
    if not backends:
        raise complain("backend", 'is empty: name a backend, or "auto" for any.')
    return () if "auto" in backends else backends


# ---------------------------------------------------------------- kubespawner_override


def check_override(override: Mapping[str, Any], complain: Complain) -> None:
    """Refuse owned keys, what looks like a misspelt one, and values that cannot be kept as JSON."""
    for key, value in override.items():
        where = f"kubespawner_override.{key}"
        if not isinstance(key, str):
            raise complain(where, "is not text.")
        if key in OWNED:
            raise complain(where, f"is an owned key: {OWNED[key]}.")
        if key in BESIDE:
            raise complain(where, f"is not KubeSpawner's: write {BESIDE[key]} beside kubespawner_override.")
        if key not in FOLDED and (near := difflib.get_close_matches(key, [*FOLDED, *OWNED], n=1, cutoff=0.87)):
            raise complain(where, f"is unknown. Was {near[0]} meant?")
        _check_json(value, where, complain, depth=0, in_pod=key in _POD_PARTS)


def _check_json(value: object, where: str, complain: Complain, *, depth: int, in_pod: bool) -> None:
    if depth > MAX_DEPTH:
        raise complain(where, f"is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise complain(where, f"has the key {key!r}, which is not text.")
            if in_pod and (reason := OWNED_IN_POD.get(re.sub("[^a-z]", "", key.lower()))):
                raise complain(f"{where}.{key}", f"is an owned key: {reason}.")
            _check_json(inner, f"{where}.{key}", complain, depth=depth + 1, in_pod=in_pod)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_json(inner, where, complain, depth=depth + 1, in_pod=in_pod)
    elif callable(value):
        raise complain(where, "is a function: what a launch was given is kept as JSON. Make profile_list the function.")
    elif not isinstance(value, (str, int, float, bool, type(None))):
        raise complain(where, f"is {type(value).__name__}; JSON values are needed.")


def check_placeholders(value: object, where: str, complain: Complain) -> None:
    """Only ``{value}`` stands for the user's text; ``{value.x}``, ``{value!r}`` and format codes are refused."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_placeholders(inner, f"{where}.{key}", complain)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_placeholders(inner, where, complain)
    elif isinstance(value, str):
        try:
            fields = [part[1:] for part in string.Formatter().parse(value) if part[1] is not None]
        except ValueError as error:
            raise complain(where, f"is not a template: {error}. Write {{{{ and }}}} for braces.") from error
        for name, spec, conversion in fields:
            if (
                name is not None
                and name.partition(".")[0].partition("[")[0] == "value"
                and (name != "value" or spec or conversion)
            ):
                raise complain(where, "may use the user's text only as {value}.")


_FILL = re.compile(r"\{\{|\}\}|\{value\}")


def substituted(template: Any, text: str) -> Any:
    """``template`` with ``{value}`` replaced in every string; the text is data and is never read as a template.

    As in ``str.format``, ``{{`` and ``}}`` are braces; names other than ``value`` stay for KubeSpawner.
    """
    if isinstance(template, Mapping):
        return {k: substituted(v, text) for k, v in template.items()}
    if isinstance(template, (list, tuple)):
        return [substituted(v, text) for v in template]
    if isinstance(template, str):
        return _FILL.sub(lambda match: text if len(match[0]) > 2 else match[0][0], template)
    return template
