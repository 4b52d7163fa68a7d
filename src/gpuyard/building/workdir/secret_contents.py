"""Secrets by what a text holds: only forms that nothing else has, so that who is stopped is stopped rightly.

Forms are those of github.com/gitleaks/gitleaks (`config/gitleaks.toml`), narrowed by what their issuers
say: GitHub's and npm's tokens end in a CRC-32 (github.blog, "Behind GitHub's new authentication token
formats"), an AWS access key is a secret only with its second half (docs.aws.amazon.com, IAM identifiers).
JSON web tokens aren't looked for: examples of them are everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from gpuyard.building.workdir.secret_checks import (
    has_checksum,
    is_aws_pair,
    is_docker_auth,
    is_in_kubeconfig,
    is_no_emulators,
    is_password,
    is_random,
    is_real_login,
    is_signature,
)


class SecretFound(NamedTuple):
    """One secret in a text.

    Attributes:
        line: from 1.
        kind: what it is, in words.
        begins: its first characters, too few to be of use.
    """

    line: int
    kind: str
    begins: str


class SecretForm(NamedTuple):
    """How one kind of secret looks.

    Attributes:
        kind: in words.
        signs: words; every text that has one has one of these.
        whole: its group `secret` is what mustn't be told, else all of it.
        is_one: asked last of a match; None when the form says enough.
        shown: how many of its first characters may be told.
    """

    kind: str
    signs: str
    whole: str
    is_one: Callable[[re.Match[bytes]], bool] | None = None
    shown: int = 8


#: Neither a letter, a digit nor what tokens are made of stands before or after.
_START, _END = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"


def _token(kind: str, prefix: str, rest: str, signs: str = "") -> SecretForm:
    """A prefix, and what a generator made."""
    return SecretForm(kind, signs or prefix, rf"{_START}{prefix}(?P<secret>{rest}){_END}", is_random)


#: Texts may be made to keep a search busy: what is repeated is bounded, or never given back (`*+`).
_BASE64_LINES = (
    r"(?:[\\]++[nrt]|[\s\\\"',+>|-])*+(?:[A-Za-z-]++: [^\n\\]*+(?:[\s]|[\\]++[nr])++)*+"
    r"[A-Za-z0-9+/=\s\\\"',]{64}"
)
_FORMS = (
    SecretForm(
        "a private key",
        "-----BEGIN",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----" + _BASE64_LINES,
        shown=31,
    ),
    SecretForm(
        "a private key of PuTTY",
        "PuTTY-User-Key",
        r"PuTTY-User-Key-File-\d: (?:(?!PuTTY-User)[\s\S]){0,4000}?Private-Lines: \d",
        shown=22,
    ),
    SecretForm(
        "a private key of age",
        "AGE-SECRET-KEY-1",
        r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}",
        shown=16,
    ),
    SecretForm(
        "an access key of AWS",
        "AKIA ASIA",
        rf"{_START}(?P<id>A(?:KIA|SIA)[A-Z2-7]{{16}}){_END}",
        is_aws_pair,
    ),
    SecretForm(
        "a key of an Azure account",
        "AccountKey=",
        r"AccountKey=(?P<secret>[A-Za-z0-9+/]{86}==)",
        is_no_emulators,
        15,
    ),
    SecretForm(
        "a shared access key of Azure",
        "SharedAccessKey=",
        r"SharedAccessKey=(?P<secret>[A-Za-z0-9+/]{43}=)",
        is_no_emulators,
        20,
    ),
    SecretForm(
        "a shared access signature of Azure",
        "sig=",
        r"[?&]sig=(?P<secret>(?:[A-Za-z0-9/+]|%[0-9A-Fa-f]{2}){43,60}(?:=|%3[Dd]))",
        is_signature,
        9,
    ),
    SecretForm(
        "a client secret of Azure",
        "Q~",
        r"(?<![\w.~-])(?P<secret>[\w.~-]{3}\dQ~[\w.~-]{31,34})(?![\w.~-])",
        is_random,
        3,
    ),
    SecretForm(
        "a token of GitHub",
        "gho_ ghp_ ghr_ ghs_ ghu_",
        rf"{_START}gh[opusr]_(?P<secret>[A-Za-z0-9]{{36}}){_END}",
        has_checksum,
    ),
    _token("a token of GitHub", "github_pat_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    SecretForm(
        "a token of npm",
        "npm_",
        rf"{_START}npm_(?P<secret>[A-Za-z0-9]{{36}}){_END}",
        has_checksum,
    ),
    SecretForm("a token of npm", "_authToken=", r"_authToken=(?P<secret>[\w+/=.-]{20,})", is_random, 11),
    _token(
        "a token of GitLab",
        "gl(?:pat|dt|rt|ptt|soat)-",
        r"[\w-]{20,}(?:\.[\w.]+)?",
        "glpat- gldt- glrt- glptt- glsoat-",
    ),
    SecretForm(
        "a token of Hugging Face",
        "hf_",
        rf"{_START}hf_(?P<secret>[A-Za-z]{{34}}){_END}",
        is_random,
        5,
    ),
    _token("a key of Anthropic", "sk-ant-", r"[a-z]+\d\d-[\w-]{93}AA"),
    SecretForm(
        "a key of OpenAI",
        "T3BlbkFJ",
        rf"{_START}sk-(?P<secret>[\w-]{{20,200}}T3BlbkFJ[\w-]{{20,200}}){_END}",
        is_random,
    ),
    _token("a key of OpenRouter", "sk-or-v1-", r"[0-9a-f]{64}"),
    _token("a key of Groq", "gsk_", r"[A-Za-z0-9]{52}"),
    _token("a token of Replicate", "r8_", r"[A-Za-z0-9]{37}"),
    _token("a key of NVIDIA", "nvapi-", r"[\w-]{60,70}"),
    _token("a key of LangSmith", "lsv2_(?:pt|sk)_", r"[0-9a-f]{32}_[0-9a-f]{10}", "lsv2_"),
    _token("a token of Databricks", "dapi", r"[0-9a-f]{32}"),
    _token("a key of Weights & Biases", "wandb_v1_", r"\w{60,90}"),
    SecretForm(
        "a key of Weights & Biases",
        "WANDB_API_KEY",
        rf"WANDB_API_KEY[\"']?\]?\s*[=:,]\s*[\"']?(?P<secret>[0-9a-f]{{40}}){_END}",
        is_random,
        13,
    ),
    _token("a token of Slack", "xox[abeoprs]-", r"(?:\d{1,20}-){1,4}[A-Za-z0-9-]{18,200}", "xox"),
    SecretForm(
        "a webhook of Slack",
        "hooks.slack.com/services",
        r"hooks\.slack\.com/services/(?P<secret>T\w{8,}/B\w{8,}/\w{24})",
        is_random,
        27,
    ),
    _token("a token of PyPI", "pypi-", r"AgE[\w-]{60,}"),
    _token("a token of DigitalOcean", "do[opr]_v1_", r"[0-9a-f]{64}", "_v1_"),
    _token("a token of Docker", "dckr_[po]at_", r"[\w-]{27,}", "dckr_"),
    SecretForm(
        "a key of SendGrid",
        "SG.",
        rf"{_START}SG\.(?P<secret>[\w-]{{22}}\.[\w-]{{43}})(?![\w-])",
        is_random,
        5,
    ),
    _token("a key of Stripe", "[rs]k_live_", r"[A-Za-z0-9]{24,}", "k_live_"),
    _token("a token of Vault", "hvs[.]", r"[\w-]{90,}", "hvs."),
    SecretForm(
        "a key of Google",
        "AIza",
        r"(?<![\w-])AIza(?P<secret>[\w-]{35})(?![\w-])",
        is_random,
    ),
    SecretForm(
        "a token of Google",
        "ya29.",
        r"(?<![\w-])ya29\.(?P<secret>[\w.-]{60,})",
        is_random,
        5,
    ),
    SecretForm(
        "a client secret of Google",
        "GOCSPX-",
        r"(?<![\w-])GOCSPX-(?P<secret>[\w-]{28})(?![\w-])",
        is_random,
        7,
    ),
    SecretForm(
        "a refresh token of Google",
        "1//0",
        r"(?<![\w/+-])1//0(?P<secret>[\w-]{40,})",
        is_random,
        5,
    ),
    SecretForm(
        "a token of Anaconda",
        "/t/",
        r"/t/(?P<secret>[a-z]{2}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
        is_random,
        6,
    ),
    SecretForm(
        "a password as in .netrc",
        "machine",
        r"machine\s+[\w.-]+\s+login\s+\S+\s+password\s+(?P<secret>\S+)",
        is_password,
        len("machine "),
    ),
    SecretForm(
        "a kubeconfig's key",
        "client-key-data",
        r"client-key-data[\"']?:\s*[\"']?(?P<secret>LS0t[A-Za-z0-9+/=]{200})",
        None,
        16,
    ),
    SecretForm(
        "a kubeconfig's token",
        "clusters:",
        r"(?m)^[ \t]*token: *(?P<secret>[\w.~-]{20,})[ \t\r]*$",
        is_in_kubeconfig,
        7,
    ),
    SecretForm(
        "a registry's password",
        '"auth"',
        r"\"auth\"\s*:\s*\"(?P<secret>[A-Za-z0-9+/]{8,}={0,2})\"",
        is_docker_auth,
        8,
    ),
    SecretForm(
        "a password in a URL",
        "://",
        r"\b(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})://(?P<user>[^\s/:@'\"`<>()\[\]{}|^$*,;\\?#]{1,100})"
        r":(?P<secret>[^\s/@'\"`<>()\[\]{}|^$*\\?#]{1,200})@(?P<host>[A-Za-z0-9_.-]+|\[)",
        is_real_login,
    ),
)


_SIGNS = tuple((form, tuple(form.signs.encode().split())) for form in _FORMS)
#: A user and a password in a URL: most texts have URLs, and few have these.
_LOGIN = rb"://[^\s/:@'\"`<>()]{1,100}:[^\s/@'\"`<>()]{1,200}@"


@cache
def _any_sign() -> re.Pattern[bytes]:
    """One expression for all signs but URLs', each sought by a character that is rare: that makes it fast."""
    by_rare: dict[bytes, list[bytes]] = {}
    for sign in {sign for _, signs in _SIGNS for sign in signs} - {b"://"}:
        at = next((at for rare in b'~_-=/.:"' if (at := sign.find(rare)) >= 0), 0)
        before = b"(?<=%s)" % re.escape(sign[: at + 1]) if at else b""
        by_rare.setdefault(sign[at : at + 1], []).append(before + re.escape(sign[at + 1 :]))
    return re.compile(
        b"|".join(re.escape(rare) + b"(?:" + b"|".join(rest) + b")" for rare, rest in by_rare.items())
    )


def find_secrets(text: bytes, *, one_of_many: bool = False) -> list[SecretFound]:
    """All that are in a text, in its order.

    Args:
        one_of_many: whether a look that is fast, and takes 5 ms to prepare, is worth it.
    """
    if one_of_many and not re.search(_LOGIN, text) and not _any_sign().search(text):
        return []
    return sorted(_found(text), key=lambda found: found.line)


def _found(text: bytes) -> Iterator[SecretFound]:
    for form, signs in _SIGNS:
        if not any(sign in text for sign in signs):
            continue
        for match in re.finditer(form.whole.encode(), text):
            if form.is_one is None or form.is_one(match):
                begins = match[0][: form.shown]
                if "user" in match.groupdict():
                    begins = match["scheme"] + b"://" + match["user"] + b":"
                line = text.count(b"\n", 0, match.start()) + 1
                yield SecretFound(line, form.kind, begins.decode("utf-8", "replace").splitlines()[0])
