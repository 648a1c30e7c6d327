"""Settings of the data plane come from the environment; a wrong one is told by its name."""

import dataclasses
from typing import Any

import pytest

from router.settings import RouterSettings, SettingError, from_environment
from serving.destinations import networks


def test_without_an_environment_the_defaults_hold() -> None:
    assert from_environment({}) == RouterSettings()
    assert from_environment({"PATH": "/bin", "SCOREFRONT_URL": "http://127.0.0.1:8081"}) == RouterSettings()


def test_every_setting_has_its_variable() -> None:
    values: dict[type, tuple[str, Any]] = {bool: ("true", True), tuple: ("10.0.0.0/8", networks("10.0.0.0/8"))}
    for field in dataclasses.fields(RouterSettings):
        text, value = values.get(type(field.default), ("7", 7))
        settings = from_environment({f"SCOREFRONT_{field.name.upper()}": text})
        assert getattr(settings, field.name) == value
        assert type(getattr(settings, field.name)) is type(field.default)
        default: Any = field.default
        assert dataclasses.replace(settings, **{field.name: default}) == RouterSettings()


def test_seconds_may_be_fractions() -> None:
    assert from_environment({"SCOREFRONT_HEAD_TIMEOUT_S": "0.25"}).head_timeout_s == 0.25


@pytest.mark.parametrize("text", ["", "x", "1 s", "0", "-1", "nan", "inf", "1e12", "None"])
def test_a_setting_that_is_no_number_above_0_is_refused_with_the_variable(text: str) -> None:
    with pytest.raises(
        SettingError, match=r"^SCOREFRONT_IDLE_TIMEOUT_S: must be a number, above 0 and below 1e12"
    ) as e:
        from_environment({"SCOREFRONT_IDLE_TIMEOUT_S": text})
    assert repr(text) in str(e.value)


def test_a_number_of_things_is_whole() -> None:
    with pytest.raises(SettingError, match="SCOREFRONT_MAX_FIELDS: must be a whole number"):
        from_environment({"SCOREFRONT_MAX_FIELDS": "1.5"})


def test_a_setting_off_by_default_may_be_switched_off() -> None:
    assert from_environment({"SCOREFRONT_LAME_DUCK_S": "0"}).lame_duck_s == 0
    with pytest.raises(SettingError, match="SCOREFRONT_LAME_DUCK_S: must be a number, at least 0"):
        from_environment({"SCOREFRONT_LAME_DUCK_S": "-1"})


def test_trusted_proxies_are_networks_with_commas_between() -> None:
    settings = from_environment({"SCOREFRONT_TRUSTED_PROXIES": "10.1.0.0/16, 192.168.7.9,fd00:1::/64"})
    assert [str(network) for network in settings.trusted_proxies] == ["10.1.0.0/16", "192.168.7.9/32", "fd00:1::/64"]
    assert from_environment({"SCOREFRONT_TRUSTED_PROXIES": ""}).trusted_proxies == ()


@pytest.mark.parametrize("text", ["10.1.0.1/16", "proxy.example", "10.1.0.0/33", "10.1.0.0/16;10.2.0.0/16", "true"])
def test_a_trusted_proxy_that_is_no_network_is_refused_by_the_name_of_the_variable(text: str) -> None:
    with pytest.raises(SettingError, match=r"^SCOREFRONT_TRUSTED_PROXIES: must be networks such as") as e:
        from_environment({"SCOREFRONT_TRUSTED_PROXIES": text})
    assert repr(text) in str(e.value)


def test_a_switch_is_true_or_false() -> None:
    assert from_environment({"SCOREFRONT_HIDE_ENDPOINTS": "true"}).hide_endpoints is True
    assert from_environment({"SCOREFRONT_HIDE_ENDPOINTS": "false"}).hide_endpoints is False


@pytest.mark.parametrize("text", ["", "1", "0", "yes", "True", "true "])
def test_anything_else_is_no_switch(text: str) -> None:
    with pytest.raises(SettingError, match=r"^SCOREFRONT_HIDE_ENDPOINTS: must be true or false") as e:
        from_environment({"SCOREFRONT_HIDE_ENDPOINTS": text})
    assert repr(text) in str(e.value)
