"""Which files of a workdir look like secrets, by their names; `SECRETS` and `HARMLESS` are the whole list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

#: Patterns of names, in lower case; those with a slash are of the path's end.
SECRETS = (
    # Environments with tokens in them.
    ".env", ".env.*", "*.env", ".envrc",
    # Private keys of ssh and PuTTY; `.pem`, `.key` and `.p8` are looked into, see below.
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.ppk", ".ssh/config",
    # Stores of keys and certificates.
    "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdb", "*.kdbx", "*.keytab", "secring.gpg",
    # Kubernetes.
    "kubeconfig", "kubeconfig.*", "kubeconfig-*", "kubeconfig_*", "*.kubeconfig", "*-kubeconfig.y*ml",
    "*_kubeconfig.y*ml", ".kube/config", "admin.conf", "super-admin.conf", "bootstrap-kubelet.conf",
    # Clouds and their tools.
    "credentials", "credentials.json", "credentials.csv", "credentials.ini", "credentials.toml",
    "credentials.y*ml", "credentials.db", "rootkey.csv", "*accesskeys.csv",
    "application_default_credentials.json", "service-account*.json", "service_account*.json",
    "*-service-account.json", "*_service_account.json", "client_secret*.json", "accesstokens.json", ".boto",
    ".s3cfg", "terraform.tfstate", ".terraformrc",
    # Package indexes, registries, code hosts.
    ".netrc", "_netrc", ".pypirc", ".npmrc", ".git-credentials", ".dockercfg",
    ".dockerconfigjson", ".docker/config.json", "containers/auth.json", ".config/gh/hosts.yml",
    # Data bases, web servers, vaults.
    ".pgpass", ".my.cnf", ".mylogin.cnf", ".htpasswd", ".vault-token",
    # Of machine learning.
    "kaggle.json", ".huggingface/token", "huggingface/token", "huggingface/stored_tokens",
    # Said outright.
    "secrets.yaml", "secrets.yml", "secrets.toml", "secrets.json", "secrets.env",
)  # fmt: skip

#: Patterns of names that are none all the same: public halves, code and words about secrets.
HARMLESS = (
    "*.pub", "*.py", "*.pyc", "*.pyi", "*.pyx", "*.ipynb", "*.c", "*.cc", "*.cpp", "*.cu", "*.h", "*.go",
    "*.rs", "*.java", "*.js", "*.ts", "*.md", "*.rst", "*.html",
    # What shows how the real one would look.
    "*.example", "*.sample", "*.template", "*.dist", "*.defaults", "example.*", "sample.*", "template.*",
    "*.example.*", "*.sample.*", "*.template.*", "*-example.*", "*-sample.*", "*-template.*", "*_example.*",
    "*_sample.*", "*_template.*",
)  # fmt: skip

#: A copy that an editor or a person left is as secret as what it is a copy of.
_COPY = re.compile(r"(?:~|\.(?:bak|backup|old|orig|save|copy|swp|\d+))+$")
#: These hold public certificates as often as private keys: their content decides.
_KEY_SUFFIXES = (".pem", ".key", ".p8")
_KEY_BYTES = 1 << 16


class _Patterns:
    """Patterns sorted by what they take to match: there are many, and files are too."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._whole = frozenset(p for p in patterns if not set(p) & set("*?["))
        self._ends = tuple(p[1:] for p in patterns if p.rfind("*") == 0)
        self._starts = tuple(p[:-1] for p in patterns if p.find("*") == len(p) - 1)
        self._others = [p for p in patterns if 0 < p.find("*") < len(p) - 1 or p.count("*") > 1]

    def match(self, name: str) -> bool:
        return (
            name in self._whole
            or name.endswith(self._ends)
            or name.startswith(self._starts)
            or any(fnmatchcase(name, pattern) for pattern in self._others)
        )


_NAMES = _Patterns([pattern for pattern in SECRETS if "/" not in pattern])
_PATHS = tuple(f"/{pattern}" for pattern in SECRETS if "/" in pattern)
_HARMLESS_NAMES = _Patterns(HARMLESS)


def looks_secret(root: Path, path: str) -> bool:
    """Whether a file should stay out of images.

    Args:
        root: the workdir.
        path: of the file, relative to it.
    """
    whole = _COPY.sub("", f"/{path.lower()}")
    name = whole.rpartition("/")[2]
    if name.endswith(_KEY_SUFFIXES):
        return _holds_private_key(root / path)
    return (_NAMES.match(name) or whole.endswith(_PATHS)) and not _HARMLESS_NAMES.match(name)


def _holds_private_key(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return b"PRIVATE KEY" in opened.read(_KEY_BYTES).replace(b"\0", b"")  # also in UTF-16
    except OSError:
        return True
