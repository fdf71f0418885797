"""A pod's token for another service: a real kubelet shows it, and takes it away before it is over."""

from __future__ import annotations

import json

import pytest

from tests.flow.kube_site import KubeSite
from tests.flow.test_site_tokens import Place, add_tokens
from tests.servers.evil_provider import EvilProvider
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.client import Client, KubectlFailed
from tests.waiting import until

pytestmark = [pytest.mark.needs("kubernetes", "kube_rig", "slapd", "root"), pytest.mark.timeout(240)]

MARGIN_S, LASTS_S = 20, 45
"""The rig's kubelet looks every 10 s."""


async def test_a_token_that_is_over_was_never_readable_in_the_pod(kube: Client, tiny_name: str) -> None:
    provider = await EvilProvider(exchanged_last_s=LASTS_S).start()
    with kube.namespace(**RESTRICTED) as namespace:
        site = KubeSite(kube, namespace, tiny_name, proxy=False)
        add_tokens(site, provider)
        site.more += f"c.KubeBackend.site_tokens_margin_s = {MARGIN_S}\n"
        try:
            await site.start()
            assert await Place(site, provider).come() == "/hub/home"
            status, said = await site.hub.start_server("ada", options={"profile": "basic"})
            assert status in (201, 202), said
            (pod,) = await site.pods()
            name = pod["metadata"]["name"]
            (folder,) = [v["value"] for v in pod["spec"]["containers"][0]["env"] if v["name"] == "DAAS_SITE_TOKENS"]

            async def read(file: str) -> str:
                try:
                    text = await site.inside(name, "cat", f"{folder}/{file}")
                except KubectlFailed:
                    return ""
                assert file != "storage" or provider.good(text), "a token that is over could be read"
                return text

            value = await until(lambda: read("storage"), within_s=60, what="her token")
            (made,) = [one for one in provider.exchanged if one.value == value]
            assert (made.sub, made.audience) == ("1", "storage")
            provider.faults = {"token": "hang"}

            async def gone() -> bool:
                return await read("storage") == "" and "could not be asked" in await read("storage.missing")

            await until(gone, within_s=90, what="why there is none any more")
            whole = [await site.objects(kind) for kind in ("pods", "configmaps", "events")]
            assert [one for one in provider.exchanged if one.value in json.dumps(whole)] == []
            (owner,) = [s for s in await site.objects("secrets") if s["metadata"]["name"] == f"{name}-tokens"]
            assert owner["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
            assert (await site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204)
            left = "what the launch left is gone"
            await until(lambda: none_left(site), within_s=60, what=left)
        finally:
            await site.stop()
            await provider.stop()


async def none_left(site: KubeSite) -> bool:
    return not [s for s in await site.objects("secrets") if s["metadata"]["name"].startswith("daas-")]
