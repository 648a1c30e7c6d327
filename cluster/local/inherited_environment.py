"""The environment of replicas on one machine: inherited variables, `${NAME}` in `env`, withheld names. Pure.

A variable of `scorefront up` is inherited by its name; never one that looks like a credential or belongs to scorefront.
"""

import re
from collections.abc import Iterator, Mapping

from serving.variable_references import referenced

INHERITED = frozenset(
    {
        *("HOME", "LOGNAME", "PATH", "SHELL", "USER", "TMPDIR", "TMP", "TEMP"),
        *("LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "JAVA_HOME", "LD_LIBRARY_PATH", "PYTHONPATH"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONUTF8"),
        *("PYTHONOPTIMIZE", "PYTHONPYCACHEPREFIX", "PYTHONWARNINGS", "PYTHONMALLOC", "MALLOC_ARENA_MAX"),
        *("SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        *("NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE", "PIP_CERT"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR", "NLTK_DATA", "XLA_FLAGS"),
        *("TRANSFORMERS_CACHE", "TRANSFORMERS_OFFLINE", "SENTENCE_TRANSFORMERS_HOME", "TFHUB_CACHE_DIR"),
        *("CONDA_PREFIX", "CONDA_DEFAULT_ENV"),
    }
)
"""Inherited by name."""

INHERITED_FAMILIES = (
    *("LC_", "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_"),
    *("OMP_", "OPENBLAS_", "MKL_", "BLIS_", "NUMEXPR_", "KMP_", "GOMP_", "VECLIB_", "NUMBA_", "ORT_"),
    *("HF_", "TORCH_", "PYTORCH_", "TF_", "KERAS_", "TOKENIZERS_"),
)
"""Inherited by the beginning of the name."""

PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"})
"""Inherited in upper and lower case, unless the address has a user or a password."""

CREDENTIAL = re.compile(r"TOKEN(?!IZER)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(^|_)(KEYS?|AUTH|PAT|PWD)(_|$)|APIKEY", re.I)
"""Parts of names that are never inherited; HF_REFERENCE is one of them."""

OWN = "SCOREFRONT"
SHELL_ONLY = re.compile(
    r"_|PWD|OLDPWD|SHLVL|TERM|COLORTERM|COLUMNS|LINES|LS_COLORS|LESS\w*|PAGER|EDITOR|VISUAL|DISPLAY|HOSTNAME|MAIL|PS\d"
    r"|HIST\w*|BASH\w*|ZSH\w*|SSH_\w+|XDG_(?!CACHE|CONFIG|DATA)\w+|DBUS_\w+|GPG_\w+|WAYLAND_\w+|GNOME_\w+|KDE_\w+"
    r"|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_\w+|PIP_\w+|UV_\w+|MAKE\w*|MFLAGS|DEBIAN_FRONTEND|VSCODE_\w+|TMUX\w*|SUDO_\w+"
)
"""Variables of shells, desktops and installers of packages, which are not worth a word."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WITHHELD = "scorefront: not passed on from the environment of `scorefront up`"
"""Beginning of the log line on withheld variables."""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environ` that replicas get."""
    return {name: value for name, value in environ.items() if _passes(name, value)}


def _passes(name: str, value: str) -> bool:
    if name.upper() in PROXIES:
        return "@" not in value
    if name in INHERITED:
        return True
    return name.startswith(INHERITED_FAMILIES) and not CREDENTIAL.search(name)


def unexpandable(value: str, environ: Mapping[str, str]) -> Iterator[str]:
    """The rules that the references in a value of `env` break."""
    for name in referenced(value):
        if name.startswith(OWN):
            yield f"names ${{{name}}}, a setting of scorefront; replicas get none of those"
        elif name not in environ:
            yield (
                f"names ${{{name}}}, which is not set in the environment of `scorefront up`; set it there and start"
                f" again, or write $${{{name}}} for the text itself"
            )


def withheld_note(environ: Mapping[str, str], given: Mapping[str, str]) -> bytes:
    """A line for the log of a replica: the variables of `scorefront up` that it did not get; b"" without any.

    environ: the environment of `scorefront up`.
    given: the environment of the replica.
    """
    names = sorted(
        name
        for name in environ
        if name not in given and not name.startswith(OWN) and _NAME.fullmatch(name) and not SHELL_ONLY.fullmatch(name)
    )
    if not names:
        return b""
    return f'{WITHHELD}: {", ".join(names)} (env: {{{names[0]}: "${{{names[0]}}}"}} passes one on)\n'.encode()
