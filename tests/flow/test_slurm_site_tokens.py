"""A job's token for another service: renewed through the helper, over a hub that is killed, and gone before its end."""

from __future__ import annotations

import asyncio
import signal
import stat
import time

import pytest

from daas_hub.core.models import ACTIVE
from tests.flow.slurm_site import SlurmSite
from tests.flow.test_site_tokens import Place, add_tokens
from tests.servers.evil_provider import EvilProvider
from tests.servers.reachable_python import reachable_python
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import Slurm
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(240), newer_when_long]
MARGIN_S, LASTS_S = 4, 24


async def test_a_job_has_a_token_as_long_as_there_is_one(slurm_any: Slurm) -> None:
    provider = await EvilProvider(exchanged_last_s=LASTS_S).start()
    site = SlurmSite(slurm_any, cmd=list(program(reachable_python())), proxy=False)
    add_tokens(site, provider)
    site.more += f"c.SlurmBackend.site_tokens_margin_s = {MARGIN_S}\n"
    try:
        await site.start()
        assert await Place(site, provider).come() == "/hub/home"
        status, said = await site.hub.start_server("ada", options={"profile": "basic"})
        assert status in (201, 202), said
        (row,) = await asyncio.to_thread(site.launches)
        daas = site.homes / "ada" / ".daas"
        storage = daas / row.id / "site_tokens" / "storage"

        def read() -> str:
            asked_at = time.time()
            try:
                text = storage.read_text()
            except FileNotFoundError:
                return ""
            assert provider.good(text, asked_at), "a token that is over could be read"
            return text

        def other_than(*values: str) -> str:
            text = read()
            return "" if text in values else text

        first = await until(lambda: other_than(""), within_s=60, what="her token")
        about = storage.stat()
        assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (site.person("ada").uid, 0o600)
        (made,) = [one for one in provider.exchanged if one.value == first]
        assert (made.sub, made.audience) == ("1", "storage")
        second = await until(lambda: other_than("", first), within_s=60, what="a renewed one")
        site.hub.signal(signal.SIGKILL)
        await site.hub.wait_gone()
        await site.hub.start()
        await until(lambda: other_than("", first, second), within_s=60, what="the next hub renews it")
        provider.faults = {"token": "hang"}
        await until(lambda: not read(), within_s=60, what="it is gone")
        assert "could not be asked" in storage.with_name("storage.missing").read_text()
        await site.hub.stop_server("users/ada/server")
        await until(lambda: over(site), within_s=60, what="the launch ended")
        await until(lambda: not list(daas.glob(f"{row.id}*")), within_s=30, what="nothing of it is left")
    finally:
        await site.stop()
        await provider.stop()


async def over(site: SlurmSite) -> bool:
    return all(row.state not in ACTIVE for row in await asyncio.to_thread(site.launches))
