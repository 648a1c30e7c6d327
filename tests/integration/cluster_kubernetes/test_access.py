"""Addresses and credentials of the API: pods, kubeconfigs, and the messages for missing parts."""

import json
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.client import access_source
from cluster.kubernetes.client.api import Api, ApiUnreachable, Misconfigured
from tests.fakes import certificates
from tests.fakes.kubernetes_http import kubernetes_server

EXEC = "client.authentication.k8s.io/v1"
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """Files mounted by the kubelet."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("t1\n")
    (folder / "ca.crt").write_bytes(certificates.make("kubernetes").cert)
    (folder / "namespace").write_text("ml")
    return folder


def config(
    folder: Path, user: dict[str, Any], name: str = "config", current: str | None = "x", **changes: Any
) -> dict[str, str]:
    """Writes a kubeconfig; returns the environment that names it."""
    cluster = {"server": "http://127.0.0.1:1", **changes.pop("cluster", {})}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {key: value for key, value in cluster.items() if value is not None}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "from-context"}}],
        "current-context": current,
        **changes,
    }
    file = folder / name
    file.write_text(yaml.safe_dump({key: value for key, value in document.items() if value is not None}))
    return {"KUBECONFIG": str(file), "HOME": str(folder)}


# ---- in a pod


async def test_a_pod_uses_its_service_account(account: Path) -> None:
    found = await access_source.source(POD, account).read(anew=False)
    assert (found.url, found.namespace, found.authorization) == ("https://10.0.0.1:443", "ml", "Bearer t1")
    assert found.tls is not None and found.tls.verify_mode == ssl.CERT_REQUIRED and found.tls.check_hostname
    assert "t1" not in repr(found)


async def test_a_pod_with_ipv6_has_its_address_in_brackets(account: Path) -> None:
    found = await access_source.source({**POD, "KUBERNETES_SERVICE_HOST": "fd00::1"}, account).read(anew=False)
    assert found.url == "https://[fd00::1]:443"


async def test_a_token_that_the_kubelet_exchanges_is_taken_over_and_so_is_an_authority(account: Path) -> None:
    source = access_source.source(POD, account)
    before = await source.read(anew=False)
    (account / "token").write_text("t2")
    assert (await source.read(anew=False)).authorization == "Bearer t2"
    assert (await source.read(anew=False)).tls is before.tls
    (account / "ca.crt").write_bytes(certificates.make("kubernetes").cert)
    assert (await source.read(anew=False)).tls is not before.tls


@pytest.mark.parametrize("name", ["token", "ca.crt"])
@pytest.mark.parametrize("content", [None, "", "\n"])
async def test_a_pod_with_an_incomplete_service_account_names_the_missing_part(
    account: Path, name: str, content: str | None
) -> None:
    if content is None:
        (account / name).unlink()
    else:
        (account / name).write_text(content)
    with pytest.raises(Misconfigured, match=f"service account has (no|an empty) {name}"):
        await access_source.source(POD, account).read(anew=False)


async def test_an_authority_that_is_no_certificate_is_named(account: Path) -> None:
    (account / "ca.crt").write_text("hello")
    with pytest.raises(Misconfigured, match=r"ca\.crt holds no certificate"):
        await access_source.source(POD, account).read(anew=False)


# ---- with a kubeconfig


async def test_a_kubeconfig_that_is_named_counts_before_the_pod_and_the_home(tmp_path: Path, account: Path) -> None:
    environment = {**POD, **config(tmp_path, {"token": "secret"})}
    found = await access_source.source(environment, account).read(anew=False)
    assert (found.url, found.authorization) == ("http://127.0.0.1:1", "Bearer secret")


async def test_the_kubeconfig_at_home_is_the_last_resort(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    config(tmp_path / ".kube", {"token": "secret"})
    assert (await access_source.source({"HOME": str(tmp_path)}).read(anew=False)).authorization == "Bearer secret"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "from-context"), ({"SCOREFRONT_NAMESPACE": "told"}, "told")],
)
async def test_home_is_the_setting_else_the_contexts_namespace(
    tmp_path: Path, environment: dict[str, str], expected: str
) -> None:
    api = await Api.connect({**config(tmp_path, {}), **environment})
    assert api.home == expected
    await api.close()


async def test_home_is_default_without_setting_and_context(tmp_path: Path) -> None:
    contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
    api = await Api.connect(config(tmp_path, {}, contexts=contexts))
    assert api.home == "default"
    await api.close()


async def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t1\n")
    source = access_source.source(config(tmp_path, {"tokenFile": "token"}))
    assert (await source.read(anew=False)).authorization == "Bearer t1"
    (tmp_path / "token").write_text("t2\n")
    assert (await source.read(anew=False)).authorization == "Bearer t2"


def plugin(folder: Path, status_of_call: str) -> dict[str, Any]:
    """An exec plugin that counts its calls in a file; `status_of_call` is Python with the number as `n`."""
    script = folder / "login"
    script.write_text(
        f"#!{sys.executable}\nimport json, pathlib\ncalls = pathlib.Path({str(folder / 'calls')!r})\n"
        "n = int(calls.read_text()) + 1 if calls.exists() else 1\ncalls.write_text(str(n))\n"
        f"answer = {{'apiVersion': {EXEC!r}, 'kind': 'ExecCredential', 'status': {status_of_call}}}\n"
        "print(json.dumps(answer))\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": EXEC, "command": str(script)}}


async def test_a_login_plugin_is_asked_once_and_again_when_its_token_was_refused(tmp_path: Path) -> None:
    async with kubernetes_server() as server:
        server.token = "token-2"
        user = plugin(tmp_path, "{'token': f'token-{n}'}")
        api = await Api.connect(config(tmp_path, user, cluster={"server": server.url}))
        await api.get("/api/v1/pods")
        await api.get("/api/v1/pods")
        await api.close()
    assert (tmp_path / "calls").read_text() == "2"


async def test_a_login_plugin_is_asked_again_when_its_token_has_run_out(tmp_path: Path) -> None:
    user = plugin(tmp_path, "{'token': f'token-{n}', 'expirationTimestamp': '2020-01-01T00:00:00Z'}")
    source = access_source.source(config(tmp_path, user))
    await source.read(anew=False)
    assert (await source.read(anew=False)).authorization == "Bearer token-2"


async def test_several_kubeconfigs_are_one(tmp_path: Path) -> None:
    first = config(tmp_path, {}, "one", users=None, contexts=None, current=None)["KUBECONFIG"]
    second = config(tmp_path, {"token": "t"}, "two", clusters=None)["KUBECONFIG"]
    found = await access_source.source({"KUBECONFIG": f"{first}:{second}:{tmp_path}/missing"}).read(anew=False)
    assert found.authorization == "Bearer t"


async def test_tls_is_checked_against_the_authority_unless_the_kubeconfig_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(certificates.make("api").cert)
    https = {"server": "https://127.0.0.1:1", "certificate-authority": "ca.crt"}
    found = await access_source.source(config(tmp_path, {}, cluster={**https, "tls-server-name": "api"})).read(
        anew=False
    )
    assert found.tls is not None and found.tls.verify_mode == ssl.CERT_REQUIRED
    assert found.server_name == "api"
    blind = {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}
    found = await access_source.source(config(tmp_path, {}, cluster=blind)).read(anew=False)
    assert found.tls is not None and found.tls.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_server_is_spoken_to_only_if_its_certificate_is_good(tmp_path: Path, trusted: bool) -> None:
    made = certificates.make("kubernetes")
    served = certificates.Folder(tmp_path / "served", made)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.cert, served.key)
    authority = (made if trusted else certificates.make("kubernetes")).cert
    (tmp_path / "ca.crt").write_bytes(authority)
    async with kubernetes_server(tls=context) as server:
        cluster = {"server": server.url, "certificate-authority": "ca.crt", "tls-server-name": "kubernetes"}
        api = await Api.connect(config(tmp_path, {}, cluster=cluster))
        try:
            if trusted:
                assert (await api.get("/api/v1/pods"))["items"] == []
            else:
                with pytest.raises(ApiUnreachable, match="certificate is not good"):
                    await api.get("/api/v1/pods")
        finally:
            await api.close()


# ---- messages for a missing configuration


async def test_a_missing_configuration_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        Misconfigured, match=r"KUBECONFIG is not set, .*/\.kube/config does not exist, and this is not a pod"
    ):
        await Api.connect({"HOME": str(tmp_path)})
    with pytest.raises(Misconfigured, match="KUBECONFIG names a file that does not exist"):
        await Api.connect({"KUBECONFIG": str(tmp_path / "missing")})


WRONG = {
    "empty": (lambda folder: (folder / "config").write_text(""), "config"),
    "no YAML": (lambda folder: (folder / "config").write_text("a: [b\nc: }"), "config"),
    "a list": (lambda folder: (folder / "config").write_text("- a"), "config"),
    "a directory": (lambda folder: (folder / "config").mkdir(), "directory"),
    "no current context": (lambda folder: config(folder, {}, current=None), "current-context"),
    "a context that is not there": (lambda folder: config(folder, {}, current="y"), "name y"),
    "no clusters": (lambda folder: config(folder, {}, clusters=[]), "name c"),
    "an empty cluster": (lambda folder: config(folder, {}, cluster={"server": None}), "empty"),
    "no server": (lambda folder: config(folder, {}, cluster={"server": None, "proxy-url": "http://p"}), "no server"),
    "a token file that is not there": (lambda folder: config(folder, {"tokenFile": "missing"}), "missing"),
    "an authority that is not there": (
        lambda folder: config(folder, {}, cluster={"server": "https://h", "certificate-authority": "missing"}),
        "missing",
    ),
    "a login plugin that is not there": (
        lambda folder: config(folder, {"exec": {"apiVersion": EXEC, "command": "/no/such"}}),
        "/no/such",
    ),
    "a login plugin that fails": (
        lambda folder: config(folder, {"exec": {"apiVersion": EXEC, "command": "false"}}),
        "process returned 1",
    ),
    "a login plugin that says nothing of use": (lambda folder: config(folder, plugin(folder, "{}")), "config"),
}


@pytest.mark.parametrize(("write", "told"), WRONG.values(), ids=WRONG)
async def test_a_wrong_kubeconfig_is_named_with_its_fault(tmp_path: Path, write: Any, told: str) -> None:
    write(tmp_path)
    with pytest.raises(Misconfigured) as caught:
        await Api.connect({"KUBECONFIG": str(tmp_path / "config")})
    text = str(caught.value)
    assert text.startswith(f"kubeconfig {tmp_path}/config") and told in text
    assert "\n" not in text


def test_a_process_in_a_pod_does_not_load_the_library_that_it_does_not_need() -> None:
    modules = ", ".join(f"cluster.kubernetes.client.{name}" for name in ("api", "reflector", "elector"))
    code = f"import {modules}, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert "aiohttp" in loaded and "kubernetes_asyncio" not in loaded


def test_a_kubeconfig_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("kubernetes_asyncio", "kubernetes_asyncio.client", "kubernetes_asyncio.config"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "cluster.kubernetes.client.kubeconfig", raising=False)
    with pytest.raises(Misconfigured, match=r"pip install 'scorefront\[k8s\]'"):
        access_source.source(config(tmp_path, {}), tmp_path)
