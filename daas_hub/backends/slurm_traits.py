"""What becomes of each of SlurmSpawner's settings: honoured, replaced by one of ours, or refused. Pure.

``docs/reference/slurm-jobs.md`` shows this table, and a test compares both with the installed SlurmSpawner.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from daas_hub.core.errors import ConfigError

from .kube_traits import Fate

_HONOURED = (
    "batch_script",
    "req_account",
    "req_cluster",
    "req_epilogue",
    "req_gres",
    "req_host",
    "req_keepvars_extra",
    "req_memory",
    "req_ngpus",
    "req_nprocs",
    "req_options",
    "req_partition",
    "req_prologue",
    "req_qos",
    "req_queue",
    "req_reservation",
    "req_runtime",
    "req_srun",
)
_QUERY = "one query for all jobs tells their states"

_OTHERS: Mapping[str, tuple[Fate, str]] = {
    "exec_prefix": (Fate.REPLACED, "SlurmBackend.helper"),
    "batch_submit_cmd": (Fate.REPLACED, "SlurmBackend.helper"),
    "batch_cancel_cmd": (Fate.REPLACED, "SlurmBackend.helper"),
    "batch_query_cmd": (Fate.REFUSED, _QUERY),
    **dict.fromkeys(
        ("state_pending_re", "state_running_re", "state_unknown_re", "state_exechost_re", "state_exechost_exp"),
        (Fate.REFUSED, _QUERY),
    ),
    "startup_poll_interval": (Fate.REFUSED, _QUERY),
    "batchspawner_singleuser_cmd": (Fate.REFUSED, "the launcher of the job stands there"),
    "ip": (Fate.REFUSED, "the launcher listens on the node's own address"),
    "start_timeout": (Fate.REPLACED, "SlurmBackend.wait_policy_s"),
}

TABLE: Mapping[str, tuple[Fate, str]] = {**dict.fromkeys(_HONOURED, (Fate.HONOURED, "")), **_OTHERS}
"""Setting → what becomes of it, and by what it is replaced or why it is refused."""
NOT_SETTINGS: Mapping[str, str] = {
    "req_username": "the account's name",
    "req_homedir": "the account's home, quoted where a shell needs it",
    "req_keepvars": "the names of the server's variables",
}
"""Variables of the template that nobody may set, and what they are."""


def check(given: Collection[str], *, of_every_spawner: Collection[str], section: str = "SlurmSpawner") -> None:
    """Raise ConfigError where ``c.SlurmSpawner`` has what is not honoured here; nothing is silently ignored.

    ``of_every_spawner``: settings that JupyterHub has for each spawner; here DaasSpawner's count.
    """
    problems = []
    for name in sorted(given):
        fate, why = TABLE.get(name, (None, ""))
        where = f"{section}.{name}"
        if fate is Fate.REPLACED:
            problems.append(f"{where} has no effect here: set {why}.")
        elif fate is Fate.REFUSED:
            problems.append(f"{where} cannot be set here: {why}.")
        elif name in NOT_SETTINGS:
            problems.append(f"{where} cannot be set here: it is {NOT_SETTINGS[name]}.")
        elif fate is None and name in of_every_spawner:
            problems.append(f"{where} has no effect here: set DaasSpawner.{name}.")
        elif fate is None:
            near = difflib.get_close_matches(name, TABLE, n=1)
            problems.append(f"{where} is unknown.{f' Was {near[0]} meant?' if near else ''}")
    if problems:
        raise ConfigError(" ".join(problems))
