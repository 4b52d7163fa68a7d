"""Which files of a workdir look like secrets, by their names."""

from __future__ import annotations

import fnmatch
from pathlib import Path

_NAMES = frozenset(
    {".env", ".envrc", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk",
     "kubeconfig", "kubeconfig.yaml", "kubeconfig.yml", "kubeconfig.json", ".netrc", "_netrc",
     ".pypirc", ".npmrc", ".git-credentials", ".pgpass", ".htpasswd", ".vault-token", ".dockercfg",
     "credentials.json", "service-account.json", "service_account.json", "secrets.yaml", "secrets.yml",
     "secrets.toml", "secrets.json", "application_default_credentials.json"}
)  # fmt: skip
_PATTERNS = (".env.*", "*.env", "*.kubeconfig", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk")
_PATHS = (".kube/config", ".aws/credentials", ".docker/config.json", ".ssh/config", ".huggingface/token")
#: Files that show what a secret one would look like.
_EXAMPLES = ("example", "sample", "template", "dist", "defaults")
#: These hold public certificates as often as private keys: their content decides.
_KEY_SUFFIXES = (".pem", ".key")
_KEY_BYTES = 1 << 16


def looks_secret(root: Path, path: str) -> bool:
    """Whether a file should stay out of images.

    Args:
        root: the workdir.
        path: of the file, relative to it.
    """
    name = path.rpartition("/")[2].lower()
    if name.endswith(_KEY_SUFFIXES):
        return _holds_private_key(root / path)
    if name.rpartition(".")[2] in _EXAMPLES:
        return False
    if name in _NAMES or any(fnmatch.fnmatchcase(name, pattern) for pattern in _PATTERNS):
        return True
    return any(path == known or path.endswith("/" + known) for known in _PATHS)


def _holds_private_key(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return b"PRIVATE KEY" in opened.read(_KEY_BYTES)
    except OSError:
        return True
