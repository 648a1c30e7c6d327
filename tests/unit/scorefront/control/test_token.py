"""The token that REST demands in a cluster."""

import base64
from collections.abc import Callable
from typing import cast

import pytest

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import NotFound
from cluster.kubernetes.client.paths import SECRETS
from controlplane.control_errors import StoreError
from scorefront.control.token import SECRET, control_token
from tests.fakes.kubernetes import FakeKubernetes


def entropy(count: int) -> bytes:
    return bytes(range(count))


async def token_of(api: FakeKubernetes, environment: dict[str, str], entropy: Callable[[int], bytes]) -> str:
    return await control_token(cast(Api, api), environment, entropy)


async def test_the_environment_comes_first() -> None:
    api = FakeKubernetes()
    assert await token_of(api, {"SCOREFRONT_TOKEN": " told \n"}, entropy) == "told"
    assert api.calls == []


async def test_the_control_token_is_created_once_and_read_by_all_others() -> None:
    api = FakeKubernetes()
    made = await token_of(api, {}, entropy)
    assert len(made) == 43
    assert await token_of(api, {}, lambda count: b"\xff" * count) == made
    assert [verb for verb, _, _ in api.calls] == ["merge"]


async def test_the_second_creator_uses_the_token_of_the_first() -> None:
    api = FakeKubernetes()

    def slow(count: int) -> bytes:
        api.edit(SECRETS, SECRET, {"data": {"token": base64.b64encode(b"first").decode()}})
        return entropy(count)

    assert await token_of(api, {}, slow) == "first"


@pytest.mark.parametrize("data", [None, {}, {"token": ""}])
async def test_a_secret_without_a_token_is_filled(data: dict[str, str] | None) -> None:
    api = FakeKubernetes()
    api.put(SECRETS, {"metadata": {"name": SECRET}, "data": data})
    assert len(await token_of(api, {}, entropy)) == 43


@pytest.mark.parametrize("token", ["%", "/w==", "ICA="])
async def test_an_unusable_token_is_reported(token: str) -> None:
    api = FakeKubernetes()
    api.edit(SECRETS, SECRET, {"data": {"token": token}})
    with pytest.raises(StoreError, match="scorefront-control-token holds no usable token; to have one made: kubectl"):
        await token_of(api, {}, entropy)


async def test_a_missing_secret_of_the_manifests_is_reported() -> None:
    api = FakeKubernetes()
    api.take_away(SECRETS, SECRET)
    with pytest.raises(NotFound, match=r"is missing: apply deploy/base/secrets\.yaml"):
        await token_of(api, {}, entropy)
