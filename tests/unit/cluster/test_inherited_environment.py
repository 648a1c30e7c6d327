"""Which variables of `scorefront up` replicas get, and the line about the others."""

import pytest

from cluster.local.inherited_environment import inherited, withheld_note


@pytest.mark.parametrize(
    "name",
    [
        *("HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "OMP_PROC_BIND", "CUDA_VISIBLE_DEVICES", "LC_CTYPE", "TZ"),
        *(
            "HTTPS_PROXY",
            "https_proxy",
            "NO_PROXY",
            "REQUESTS_CA_BUNDLE",
            "XDG_CACHE_HOME",
            "CONDA_PREFIX",
            "JAVA_HOME",
        ),
        *("TORCH_HOME", "TOKENIZERS_PARALLELISM", "TRANSFORMERS_CACHE", "MKL_NUM_THREADS", "PYTHONPATH", "JAVA_HOME"),
    ],
)
def test_variables_of_caches_threads_devices_proxies_and_locale_are_inherited(name: str) -> None:
    assert inherited({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "SCOREFRONT_TOKEN", "SCOREFRONT_KEY", "FOO"),
        *("TF_API_KEY", "KERAS_PASSWORD", "HF_AUTH", "TORCH_HUB_SECRET", "AML_APP_ROOT", "WORKER_COUNT"),
    ],
)
def test_credentials_settings_of_scorefront_and_other_names_are_not_inherited(name: str) -> None:
    assert inherited({name: "x"}) == {}


def test_a_proxy_with_a_password_in_its_address_is_not_inherited() -> None:
    environ = {"HTTP_PROXY": "http://ada:secret@proxy:3128", "https_proxy": "http://proxy:3128"}
    assert inherited(environ) == {"https_proxy": "http://proxy:3128"}


def test_one_line_names_what_was_left_out_without_values_and_without_those_of_shells() -> None:
    environ = {"FOO": "v4lue", "HF_TOKEN": "v4lue", "TERM": "x", "SSH_TTY": "x", "SCOREFRONT_TOKEN": "v4lue", "TZ": "x"}
    line = withheld_note(environ, {"TZ": "x"}).decode()
    assert "FOO, HF_TOKEN " in line and line.count("\n") == 1 and '"${FOO}"' in line
    assert not any(text in line for text in ("v4lue", "TERM", "SSH", "SCOREFRONT", "TZ"))
    assert withheld_note({"TERM": "x"}, {}) == b""


@pytest.mark.parametrize("name", ["BASH_FUNC_module%%", "ProgramFiles(x86)", "a.b", "1ST", "über", "\udcff", "=C:"])
def test_names_that_env_cannot_pass_on_are_not_listed(name: str) -> None:
    assert withheld_note({name: "x"}, {}) == b""
