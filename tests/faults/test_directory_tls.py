"""Passwords go only to the directory that proves to be ours, and to nobody that it points to."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from daas_hub.clients.directory import Directory, Verdict
from daas_hub.core.errors import DirectoryUnavailable
from daas_hub.demo.directory import DirectoryListener
from daas_hub.demo.tree import Tree
from tests.faults.directory_site import directory_behind
from tests.servers.fault_proxy import FaultProxy
from tests.servers.slapd import BASE, SERVICE_PASSWORD, Slapd, certificates

pytestmark = pytest.mark.needs("slapd")


async def refused(directory: Directory, why: str) -> None:
    with pytest.raises(DirectoryUnavailable) as error:
        await directory.authenticate("ada", "ada-secret")
    assert why in error.value.log_message


def nothing_secret(seen: bytes) -> bool:
    return not any(secret in seen for secret in (b"ada", SERVICE_PASSWORD.encode(), b"daas-hub"))


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
async def test_another_ca(slapd: Slapd, tmp_path: Path, scheme: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await asyncio.to_thread(certificates, other)
    proxy = await FaultProxy(slapd.port if scheme == "ldap" else slapd.tls_port).start()
    async with directory_behind(proxy, slapd, ca_file=other / "ca.pem", scheme=scheme) as directory:
        await refused(directory, "certificate verify failed")
    assert proxy.connections == 1
    assert nothing_secret(proxy.received)
    await proxy.stop()


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
async def test_another_hosts_certificate(slapd: Slapd, scheme: str) -> None:
    proxy = await FaultProxy(slapd.port if scheme == "ldap" else slapd.tls_port, host="127.0.0.2").start()
    async with directory_behind(proxy, slapd, scheme=scheme) as directory:
        await refused(directory, "IP address mismatch")
    assert nothing_secret(proxy.received)
    await proxy.stop()


async def test_an_expired_certificate_by_starttls(tmp_path: Path) -> None:
    root = tmp_path / "expired"
    root.mkdir()
    server = ExpiredSlapd(root, Path("/home"))
    await server.start()
    try:
        proxy = await FaultProxy(server.port).start()
        async with directory_behind(proxy, server, ca_file=root / "expired.pem") as directory:
            await refused(directory, "certificate has expired")
        assert proxy.received
        assert nothing_secret(proxy.received)
        await proxy.stop()
    finally:
        await server.stop()


class ExpiredSlapd(Slapd):
    """Its certificate ended yesterday."""

    def config_text(self) -> str:
        path = expired(self.root)
        own = f"TLSCertificateFile {path}\nTLSCertificateKeyFile {path}\n"
        kept = [line for line in super().config_text().splitlines() if not line.startswith("TLS")]
        return "\n".join(kept[:9]) + f"\nTLSCACertificateFile {path}\n{own}" + "\n".join(kept[9:]) + "\n"


async def test_an_expired_certificate(slapd: Slapd, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(expired(tmp_path))
    seen = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    stand_in = FaultProxy(None)
    stand_in.port = server.sockets[0].getsockname()[1]
    async with server, directory_behind(stand_in, slapd, ca_file=tmp_path / "expired.pem", scheme="ldaps") as directory:
        await refused(directory, "certificate has expired")
    assert not seen


def expired(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own CA and ended yesterday; with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=9)).not_valid_after(now - datetime.timedelta(1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.add_extension(here, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "expired.pem"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem) + secret)
    return path


async def test_a_server_without_tls_never_sees_a_password(slapd: Slapd) -> None:
    # The demo's listener answers StartTLS with protocolError.
    listener = DirectoryListener(Tree(BASE, []))
    await listener.start()
    proxy = await FaultProxy(listener.port).start()
    async with directory_behind(proxy, slapd) as directory:
        await refused(directory, "startTLS failed")
    assert proxy.received
    assert nothing_secret(proxy.received)
    await proxy.stop()
    await listener.stop()


async def test_through_starttls_nothing_can_be_read_on_the_way(slapd: Slapd) -> None:
    proxy = await FaultProxy(slapd.port).start()
    async with directory_behind(proxy, slapd) as directory:
        assert (await directory.authenticate("ada", "ada-secret")).verdict is Verdict.OK
    assert nothing_secret(proxy.received)
    await proxy.stop()


async def test_only_a_server_of_the_list_is_referred_to(slapd: Slapd, tmp_path: Path) -> None:
    """A part of the people is elsewhere: found there, their password proved there; nowhere else, and not further."""
    (tmp_path / "branch").mkdir()
    trap, branch = await FaultProxy(None).start(), await Slapd(tmp_path / "branch", Path("/home")).start()
    ou = f"ou=branch,ou=people,{BASE}"
    refer = f"dn: {ou}\nobjectClass: referral\nobjectClass: extensibleObject\nou: branch\nref: ldap://127.0.0.1:"
    await slapd.add(f"{refer}{branch.port}/{ou}\n")
    zoe = "objectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: zoe\ncn: Zoe\nsn: Zoe\nuidNumber: 22001\n"
    zoe += "gidNumber: 30001\nhomeDirectory: /home/zoe\nuserPassword: zoe-secret\n"
    await branch.add(f"dn: {ou}\nobjectClass: organizationalUnit\nou: branch\n")
    await branch.add(f"dn: uid=zoe,{ou}\n{zoe}")
    further = refer.replace("ou=branch", "ou=further,ou=branch").replace("ou: branch", "ou: further")
    await branch.add(f"{further}{trap.port}/{ou}\n")
    way = FaultProxy(None)
    way.port = slapd.port
    hosts = frozenset({f"127.0.0.1:{branch.port}"})
    try:
        async with directory_behind(way, slapd) as directory:
            assert await directory.lookup("zoe") is None
        async with directory_behind(way, slapd, referral_hosts=hosts) as directory:
            outcome = await directory.authenticate("zoe", "zoe-secret")
            assert outcome.verdict is Verdict.OK
            assert outcome.identity is not None
            assert (outcome.identity.name, outcome.identity.attributes["uid_number"]) == ("zoe", 22001)
            found = await directory.lookup_subject(outcome.identity.subject)
            assert found is not None
            assert found[0].name == "zoe"
            assert (await directory.authenticate("zoe", "ada-secret")).verdict is Verdict.WRONG
            assert (await directory.authenticate("ada", "ada-secret")).verdict is Verdict.OK
            await branch.stop()
            # Who is there is not gone, and nobody's groups are fewer: nothing is known.
            with pytest.raises(DirectoryUnavailable) as error:
                await directory.lookup("zoe")
            assert error.value.reason == "directory_incomplete"
        assert trap.connections == 0
    finally:
        await branch.stop()
        await trap.stop()


async def test_referrals_are_never_followed(slapd: Slapd) -> None:
    trap = await FaultProxy(None).start()
    entry = "objectClass: referral\nobjectClass: extensibleObject\nou: away\nref: ldap://127.0.0.1:{port}/ou=x,{base}\n"
    for parent in ("people", "groups"):
        dn = f"dn: ou=away,ou={parent},{BASE}\n"
        await slapd.add(dn + entry.format(port=trap.port, base=BASE))
    way = FaultProxy(None)
    way.port = slapd.port
    async with directory_behind(way, slapd) as directory:
        outcome = await directory.authenticate("ada", "ada-secret")
        assert outcome.verdict is Verdict.OK
        assert await directory.lookup("nobody") is None
    async with directory_behind(way, slapd, user_search_base=f"ou=away,ou=people,{BASE}") as directory:
        await refused(directory, "referral")
    assert trap.connections == 0
    await trap.stop()
