"""One pass of jupyterhub-idle-culler, unmodified: run by the Python of its own environment, a JSON line as answer."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

from jupyterhub_idle_culler import cull_idle


def main() -> None:
    """argv: API URL, token, page size (0: the hub's default). Everything else as the peer's own defaults."""
    url, token, page_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    began, cpu = time.perf_counter(), time.process_time()
    # `--timeout` is 600 by default; here nobody is idle for that long.
    asyncio.run(cull_idle(url, token, 600, logging.getLogger("peer"), api_page_size=page_size))
    print(json.dumps({"wall_s": time.perf_counter() - began, "own_cpu_s": time.process_time() - cpu}))


main()
