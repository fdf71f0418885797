"""A certificate for each launch, where the hub has ``internal_ssl``: made for its names, handed to its backend.

JupyterHub makes one for each user, before it is known where the server will run, always for the local host, and keeps
it under the user's name: two starts at once would share it, and a user's own certificate would be good for another
user's server. Its authorities are used as they are, and so they outlive the hub (docs/decisions/0118).
"""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from certipy import Certipy
from certipy.certipy import CertNotFoundError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from daas_hub.backends.base import Backend
from daas_hub.core.errors import ConfigError, StartFailed
from daas_hub.core.models import LaunchSpec

if TYPE_CHECKING:
    from .spawner import DaasSpawner

AUTHORITY = "notebooks-ca"
"""JupyterHub's name for the authority of single-user servers (``JupyterHub.internal_ssl_authorities``)."""
PREFIX = "launch-"
KEY, CERTIFICATE = "key.pem", "certificate.pem"
SKEW = timedelta(minutes=5)
"""Clocks of other machines may be behind."""


@asynccontextmanager
async def certified(spawner: DaasSpawner, backend: Backend, spec: LaunchSpec) -> AsyncIterator[LaunchSpec]:
    """The launch with its certificate, whose files are there until the block is over; as it is without internal_ssl.

    Raises StartFailed where no certificate can be made, and what ``certificate_names`` raises.
    """
    if not spawner.internal_ssl:
        yield spec
        return
    place = Path(spawner.internal_certs_location)
    names = await backend.certificate_names(spec)
    try:
        trusted = spawner.internal_trust_bundles[AUTHORITY]
        files = await asyncio.to_thread(make, place, trusted, spec.launch_id, names)
    except (OSError, ValueError, KeyError, CertNotFoundError) as error:
        raise StartFailed(
            "The server's certificate cannot be made just now. Please tell the administrator.",
            permanent=False,
            reason="certificate",
            log_message=f"No certificate for launch {spec.launch_id} ({', '.join(names)}) from {AUTHORITY} in {place}: "
            f"{type(error).__name__}: {error}",
        ) from error
    try:
        yield replace(spec, certificates=files)
    finally:
        await asyncio.to_thread(shutil.rmtree, Path(files["keyfile"]).parent, ignore_errors=True)


def own_files(location: str) -> dict[str, str]:
    """Where the hub keeps its own certificate, for a program beside it that is not the hub. Blocks.

    Raises ConfigError where there is none.
    """
    place = Path(location).absolute()
    try:
        files = Certipy(store_dir=str(place)).store.get_record("hub-internal")["files"]
    except (CertNotFoundError, OSError) as error:
        raise ConfigError(
            f"JupyterHub.internal_ssl is set, but there is no certificate of the hub in {place} "
            "(JupyterHub.internal_certs_location): name the folder with its whole path, and start the hub once."
        ) from error
    # The name of the bundle is certipy's (trust_from_graph).
    return {
        "client_key": str(Path(files["key"]).absolute()),
        "client_cert": str(Path(files["cert"]).absolute()),
        "ca_certs": str(place / "hub-ca_trust.crt"),
    }


def clear(place: Path) -> None:
    """Remove what starts left that a killed hub had begun; at the hub's start, before any other."""
    for folder in place.glob(f"{PREFIX}*"):
        shutil.rmtree(folder)


def make(place: Path, trusted: str, launch_id: str, names: Sequence[str]) -> dict[str, str]:
    """Key and certificate in a new folder that only the hub may enter, good as long as the authority's own. Blocks.

    ``place``: the authorities' folder; ``trusted``: the file with those that servers trust.
    """
    authority = Certipy(store_dir=str(place)).store.get_files(AUTHORITY)
    issuer, signing = authority.cert.load(), authority.key.load()
    # Milliseconds; an RSA key would hold up the whole hub for some tenths of a second.
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, launch_id)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(issuer.not_valid_before_utc, datetime.now(UTC) - SKEW))
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .add_extension(signer, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signing, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place.absolute()))
    _write(folder / KEY, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    _write(folder / CERTIFICATE, certificate.public_bytes(pem))
    files = {"keyfile": folder / KEY, "certfile": folder / CERTIFICATE, "cafile": Path(trusted).absolute()}
    return {kind: str(path) for kind, path in files.items()}


def issued(place: Path, trusted: str, launch_id: str, names: Sequence[str]) -> dict[str, str]:
    """The same as text, by the names of ``LaunchSpec.certificates``, for a job that is there already. Blocks.

    Raises what ``certified`` tells as StartFailed: OSError, ValueError, CertNotFoundError.
    """
    files = make(place, trusted, launch_id, names)
    try:
        return {kind: Path(path).read_text() for kind, path in files.items()}
    finally:
        shutil.rmtree(Path(files["keyfile"]).parent, ignore_errors=True)


def _write(path: Path, text: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(text)


def _name(name: str) -> x509.GeneralName:
    kind, _, value = name.partition(":")
    match kind:
        case "IP":
            return x509.IPAddress(ipaddress.ip_address(value))
        case "DNS":
            return x509.DNSName(value)
    raise ValueError(f"{name!r} is neither DNS:name nor IP:address")
