"""Certificates: refused material and its reason, the choice for a name, and the adoption of changed files."""

import datetime
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from router.proxy import tls
from router.proxy.tls import CertificatePair, Certificates, ServedCertificate, TlsError, choose
from tests.fakes.certificates import DAY, NOW, Folder, Made, SecretMount, make

GOOD = make("good.test", begins=NOW - DAY, ends=NOW + DAY)
OTHER = make("other.test", begins=NOW - DAY, ends=NOW + 2 * DAY)


def loaded(folder: Folder, now: datetime.datetime = NOW) -> Certificates:
    return Certificates([CertificatePair(folder.cert, folder.key)], now)


def presented(certificates: Certificates, name: str | None = None, **client: ssl.TLSVersion) -> bytes:
    """The certificate for a client with this name (or none)."""
    return handshake(certificates, name, **client).getpeercert(binary_form=True) or b""


def handshake(certificates: Certificates, name: str | None, **limits: ssl.TLSVersion | str) -> ssl.SSLObject:
    """Client and server in memory. `limits`: attributes of the client's context, or its `ciphers`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    for limit, value in limits.items():
        if limit == "ciphers":
            context.set_ciphers(str(value))
        else:
            setattr(context, limit, value)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    pending = [client, server]
    for _ in range(10):
        for end in list(pending):
            try:
                end.do_handshake()
                pending.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not pending
    return client


# ---- refused requests


def nothing(folder: Folder) -> None:
    folder.cert.unlink()


def no_key(folder: Folder) -> None:
    folder.key.unlink()


def a_folder(folder: Folder) -> None:
    folder.cert.unlink()
    folder.cert.mkdir()


def text(folder: Folder) -> None:
    folder.cert.write_text("not a certificate\n")


def half(folder: Folder) -> None:
    folder.cert.write_bytes(GOOD.cert[: len(GOOD.cert) // 2])


def empty_key(folder: Folder) -> None:
    folder.key.write_bytes(b"")


def half_a_key(folder: Folder) -> None:
    folder.key.write_bytes(GOOD.key[: len(GOOD.key) // 2])


def encrypted(folder: Folder) -> None:
    folder.write(make(begins=NOW - DAY, ends=NOW + DAY, pass_phrase=b"secret"))


def expired(folder: Folder) -> None:
    folder.write(make(begins=NOW - 2 * DAY, ends=NOW))


def too_early(folder: Folder) -> None:
    folder.write(make(begins=NOW + DAY, ends=NOW + 2 * DAY))


def mismatched(folder: Folder) -> None:
    folder.key.write_bytes(OTHER.key)


def too_weak(folder: Folder) -> None:
    folder.write(make(begins=NOW - DAY, ends=NOW + DAY, rsa_bits=1024))


BAD: dict[Callable[[Folder], None], tuple[str, str]] = {
    nothing: ("tls.crt", "no such file"),
    no_key: ("tls.key", "no such file"),
    a_folder: ("tls.crt", "cannot be read: Is a directory"),
    text: ("tls.crt", "not a certificate chain in PEM form"),
    half: ("tls.crt", "not a certificate chain in PEM form"),
    empty_key: ("tls.key", "not a private key in PEM form"),
    half_a_key: ("tls.key", "not a private key in PEM form"),
    encrypted: ("tls.key", "encrypted"),
    expired: ("tls.crt", "expired on 2030-01-01 00:00 UTC"),
    too_early: ("tls.crt", "not valid before 2030-01-02 00:00 UTC"),
    mismatched: ("tls.key", "is not the key of"),
    too_weak: ("tls.crt", "key too small"),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_bad_material_is_refused_at_the_start_with_file_and_reason(
    tmp_path: Path, spoil: Callable[[Folder], None]
) -> None:
    folder = Folder(tmp_path, GOOD)
    spoil(folder)
    with pytest.raises(TlsError) as refusal:
        loaded(folder)
    name, reason = BAD[spoil]
    assert str(refusal.value).startswith(str(tmp_path / name))
    assert reason in str(refusal.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = Folder(tmp_path, GOOD)
    folder.key.chmod(0)
    with pytest.raises(TlsError, match=r"tls.key: cannot be read: Permission denied"):
        loaded(folder)


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_change_is_refused_with_the_reason_and_the_old_certificate_stays(
    tmp_path: Path, spoil: Callable[[Folder], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = Folder(tmp_path / "mount", GOOD)
    certificates = loaded(folder)
    spoil(folder)
    assert not certificates.reload(NOW)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert BAD[spoil][1] in record.getMessage() and BAD[spoil][0] in record.getMessage()
    assert presented(certificates, "good.test") == GOOD.der
    assert not certificates.reload(NOW)
    assert len(caplog.records) == 1, "the same refusal is told once"
    if folder.cert.is_dir():
        folder.cert.rmdir()
    folder.write(OTHER)
    assert certificates.reload(NOW)
    assert presented(certificates, "good.test") == OTHER.der


# ---- served requests


@pytest.mark.parametrize("name", ["good.test", "unknown.test", None])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_change_reaches_new_clients_with_and_without_a_server_name(
    tmp_path: Path, name: str | None, version: ssl.TLSVersion
) -> None:
    folder = Folder(tmp_path, GOOD)
    certificates = loaded(folder)
    assert presented(certificates, name, maximum_version=version) == GOOD.der
    folder.write(OTHER)
    assert certificates.reload(NOW)
    assert presented(certificates, name, maximum_version=version) == OTHER.der


SERVED = [
    ServedCertificate(frozenset(names), NOW, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    for names in (["first.test"], ["*.example.com", "*.test"], ["api.example.com", "Upper.test".lower()])
]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("first.test", 0),
        ("www.example.com", 1),
        ("api.example.com", 2),  # exact wins over the wildcard of an earlier certificate
        ("API.Example.COM.", 2),
        ("a.b.example.com", 0),  # a wildcard stands for one label (RFC 6125 section 6.4.3)
        ("example.com", 0),
        ("other.test", 1),
        ("*.test", 1),
        ("test", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_a_name_gets_its_own_certificate_then_a_wildcard_then_the_first(name: str | None, place: int) -> None:
    assert SERVED.index(choose(SERVED, name)) == place


def test_each_name_is_shown_its_certificate_and_a_bad_change_of_one_does_not_stop_the_others(tmp_path: Path) -> None:
    first, second = Folder(tmp_path / "first", GOOD), Folder(tmp_path / "second", OTHER)
    certificates = Certificates([CertificatePair(first.cert, first.key), CertificatePair(second.cert, second.key)], NOW)
    assert presented(certificates, "good.test") == GOOD.der
    assert presented(certificates, "other.test") == OTHER.der
    assert certificates.expires_at == NOW + DAY
    third = make("other.test", begins=NOW - DAY, ends=NOW + 5 * DAY)
    mismatched(first)
    second.write(third)
    assert certificates.reload(NOW)
    assert presented(certificates, "good.test") == GOOD.der
    assert presented(certificates, "other.test") == third.der


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("made", [GOOD, make("good.test", begins=NOW - DAY, ends=NOW + DAY, rsa_bits=2048)])
def test_tls_1_2_and_1_3_agree_on_forward_secrecy_and_http_1_1(
    tmp_path: Path, version: ssl.TLSVersion, made: Made
) -> None:
    certificates = loaded(Folder(tmp_path, made))
    client = handshake(certificates, "good.test", minimum_version=version, maximum_version=version)
    cipher = client.cipher()
    assert cipher is not None
    assert cipher[0].startswith(("ECDHE-", "TLS_"))
    assert ("GCM" in cipher[0]) or ("CHACHA20" in cipher[0])
    assert client.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    "client",
    [
        {"minimum_version": ssl.TLSVersion.TLSv1_2, "maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": ciphers}
        for ciphers in ("ECDHE-ECDSA-AES128-SHA256", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-SHA")
    ],
    ids=lambda client: client["ciphers"],
)
def test_a_client_without_a_sane_cipher_is_turned_away(tmp_path: Path, client: dict[str, ssl.TLSVersion | str]) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(loaded(Folder(tmp_path, GOOD)), "good.test", **client)


def test_nothing_older_than_tls_1_2_is_offered(tmp_path: Path) -> None:
    context = loaded(Folder(tmp_path, GOOD)).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


# ---- when files are looked at


@pytest.mark.parametrize("how", ["written in place", "renamed", "secret swapped", "copied with its times"])
def test_a_change_is_seen_however_it_is_made(tmp_path: Path, how: str) -> None:
    folder = (SecretMount if how == "secret swapped" else Folder)(tmp_path / "mount", GOOD)
    certificates = loaded(folder)
    assert not certificates.reload(NOW)
    before = folder.cert.stat()
    (folder.rename if how == "renamed" else folder.write)(OTHER)
    if how == "copied with its times":
        for path in (folder.cert, folder.key):
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert certificates.reload(NOW)
    assert presented(certificates) == OTHER.der
    assert not certificates.reload(NOW)


def test_a_certificate_that_was_not_valid_yet_is_taken_over_when_it_is(tmp_path: Path) -> None:
    folder = Folder(tmp_path, GOOD)
    certificates = loaded(folder)
    soon = make(begins=NOW + datetime.timedelta(seconds=30), ends=NOW + 9 * DAY)
    folder.write(soon)
    assert not certificates.reload(NOW)
    assert not certificates.reload(NOW + datetime.timedelta(seconds=29))
    assert presented(certificates) == GOOD.der
    assert certificates.reload(NOW + datetime.timedelta(seconds=30))
    assert presented(certificates) == soon.der


def test_files_that_change_while_read_are_read_again_and_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = SecretMount(tmp_path / "mount", GOOD)
    certificates = loaded(folder)
    third = make(begins=NOW - DAY, ends=NOW + 3 * DAY)
    read = tls._read

    def swap_after(path: Path) -> bytes:
        data = read(path)
        if path == folder.cert:
            monkeypatch.setattr(tls, "_read", read)
            folder.write(third)  # the key that is read next is already that of the next certificate
        return data

    folder.write(OTHER)
    monkeypatch.setattr(tls, "_read", swap_after)
    assert not certificates.reload(NOW)
    assert caplog.records == []
    assert certificates.reload(NOW)
    assert presented(certificates) == third.der


def test_a_successor_worker_begins_with_the_certificate_in_use_though_expired(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path, GOOD)
    late = NOW + 5 * DAY
    certificates = Certificates([CertificatePair(folder.cert, folder.key)], late, even_expired=True)
    assert presented(certificates) == GOOD.der
    folder.write(OTHER)  # expired as well, and that is no reason to change
    assert not certificates.reload(late)
    assert presented(certificates) == GOOD.der


def test_an_unchanged_file_is_not_read_again_when_it_expires_in_use(tmp_path: Path) -> None:
    certificates = loaded(Folder(tmp_path, GOOD))
    assert not certificates.reload(NOW + 5 * DAY)
    assert presented(certificates) == GOOD.der
