"""Certificates made on the spot, and the usual ways to put them in place."""

import datetime
import os
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Made:
    """PEM of a self-signed certificate and of its key."""

    cert: bytes
    key: bytes

    @property
    def der(self) -> bytes:
        """The DER form, as clients see it."""
        return ssl.PEM_cert_to_DER_cert(self.cert.decode())


def make(
    *names: str,
    begins: datetime.datetime | None = None,
    ends: datetime.datetime | None = None,
    pass_phrase: bytes | None = None,
    rsa_bits: int = 0,
) -> Made:
    """A certificate for the names; without dates it is good now, in the sense of the test's machine."""
    key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scorefront test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - DAY)
        .not_valid_after(ends or now + 30 * DAY)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    hidden = BestAvailableEncryption(pass_phrase) if pass_phrase else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)
    return Made(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), pem)


class Folder:
    """`tls.crt` and `tls.key` in a folder, with ways to replace them."""

    def __init__(self, folder: Path, made: Made) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.cert = folder / "tls.crt"
        self.key = folder / "tls.key"
        self.write(made)

    def write(self, made: Made) -> None:
        """In place, as an editor or `cp` does."""
        self.cert.write_bytes(made.cert)
        self.key.write_bytes(made.key)

    def rename(self, made: Made) -> None:
        """Written beside and renamed, as careful programs do."""
        for path, data in ((self.cert, made.cert), (self.key, made.key)):
            beside = path.with_suffix(".new")
            beside.write_bytes(data)
            os.replace(beside, path)


class SecretMount(Folder):
    """As the kubelet mounts a Secret: files are links into `..data`, itself a link that is swapped in one step."""

    def __init__(self, folder: Path, made: Made) -> None:
        self._versions = 0
        self._current: Path | None = None
        super().__init__(folder, made)
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(Path("..data") / name)

    def write(self, made: Made) -> None:
        self._versions += 1
        version = self.folder / f"..version_{self._versions}"
        version.mkdir()
        (version / "tls.crt").write_bytes(made.cert)
        (version / "tls.key").write_bytes(made.key)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        os.replace(link, self.folder / "..data")
        if self._current is not None:
            shutil.rmtree(self._current)
        self._current = version
