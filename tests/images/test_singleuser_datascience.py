"""The data science image in a pod: its packages, R with packages of the user's own, what was added to Lab."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.images.lab_site import LabSite, r_source
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image

pytestmark = [pytest.mark.needs("kube_rig", "images", "slapd", "root"), pytest.mark.timeout(300)]
OWN = ".local/share/daas/singleuser-datascience-1.0"
FIT = """
import io, matplotlib.pyplot as plt, numpy as np, pandas as pd, scipy.stats
from sklearn.linear_model import LinearRegression
table = pd.DataFrame({"x": np.arange(5.0)}).assign(y=lambda t: 2 * t.x + 1)
fit = LinearRegression().fit(table[["x"]], table.y)
table.plot(x="x", y="y"); plt.savefig(picture := io.BytesIO())
print(round(fit.coef_[0], 6), round(scipy.stats.linregress(table.x, table.y).intercept, 6), picture.getvalue()[1:4])
"""


@pytest.fixture
async def site(kube_rig: Cluster, project_image: Callable[[str], Image]) -> AsyncIterator[LabSite]:
    image = project_image("singleuser-datascience")
    with kube_rig.namespace(**RESTRICTED) as namespace:
        site = LabSite(kube_rig, namespace, image)
        try:
            await site.start()
            await site.sign_in("ada")
            yield site
        finally:
            await site.stop()


async def test_python_r_and_labs_extensions(site: LabSite) -> None:
    lab = await site.lab()
    python = await lab.new_kernel()
    assert await lab.run(python, FIT, within_s=90) == "2.0 1.0 b'PNG'\n"

    await site.put("seven_1.0.tar.gz", r_source("seven"))
    home = site.home("ada")
    r = await lab.new_kernel("ir")
    await lab.run(r, f"install.packages('{home}/seven_1.0.tar.gz', repos = NULL)", within_s=90)
    assert (await lab.run(r, "cat(seven::seven(), dirname(find.package('seven')))")).split() == ["7", f"{home}/{OWN}/r"]

    assert await lab.run(r, "cat(getOption('repos')[['CRAN']])") == "http://127.0.0.1:9/cran"

    used = await lab.get("api/metrics/v1")
    assert used["rss"] > 0
    # jupyter-server-proxy: a port of the pod, by a person who may, and by nobody.
    await lab.run(python, "import subprocess; web = subprocess.Popen(['python3', '-m', 'http.server', '8123'])")
    page = await lab.run(python, WAIT_FOR_PORT)
    assert page == "there\n"
    assert "seven_1.0.tar.gz" in await lab.get("proxy/8123/")
    assert await lab.without_token("proxy/8123/") == (302, 403)
    await site.stop_lab()

    lab = await site.lab()
    r = await lab.new_kernel("ir")
    assert await lab.run(r, "cat(seven::seven())") == "7"
    await site.stop_lab()

    lab = await site.lab("safe")
    r = await lab.new_kernel("ir")
    assert await lab.run(r, "cat(requireNamespace('seven', quietly = TRUE))") == "FALSE"


WAIT_FOR_PORT = """
import socket, time
for _ in range(300):
    with socket.socket() as asked:
        if asked.connect_ex(("127.0.0.1", 8123)) == 0:
            print("there")
            break
    time.sleep(0.1)
"""
