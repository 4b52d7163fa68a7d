"""Secrets by what a text holds: only forms that nothing else has, so that who is stopped is stopped rightly.

Forms are those of github.com/gitleaks/gitleaks (`config/gitleaks.toml`), narrowed by what their issuers
say: GitHub's and npm's tokens end in a CRC-32 (github.blog, "Behind GitHub's new authentication token
formats"), an AWS access key is a secret only with its second half (docs.aws.amazon.com, IAM identifiers).
JSON web tokens aren't looked for: examples of them are everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class SecretFound:
    """One secret in a text.

    Attributes:
        line: from 1.
        kind: what it is, in words.
        begins: its first characters, too few to be of use.
    """

    line: int
    kind: str
    begins: str


@dataclass(frozen=True)
class SecretForm:
    """How one kind of secret looks.

    Attributes:
        kind: in words.
        first: in every text that has one: bytes, or an expression that begins with a rare character.
        whole: its group `secret` is what mustn't be told, else all of it.
        is_one: asked last of a match; None when the form says enough.
        shown: how many of its first characters may be told.
    """

    kind: str
    first: str | bytes
    whole: str
    is_one: Callable[[re.Match[bytes]], bool] | None = None
    shown: int = 8


#: Neither a letter, a digit nor what tokens are made of stands before or after.
_START, _END = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"


def _token(kind: str, prefix: str, rest: str, first: str | bytes = "") -> SecretForm:
    """A prefix, and what a generator made."""
    if not first:
        ends = [prefix]  # a lookbehind has one length
        while choice := re.search(r"\(\?:([^)]*)\)", ends[0]):
            ends = [end.replace(choice[0], word, 1) for end in ends for word in choice[1].split("|")]
        rare = r"\." if prefix.endswith(r"\.") else prefix[-1]
        first = f"{rare}(?:{'|'.join(f'(?<={end})' for end in ends)})"
    return SecretForm(kind, first, rf"{_START}{prefix}(?P<secret>{rest}){_END}", is_random)


_BASE64_LINES = (
    r"(?:[\s\\\"',+>|-]|[\\]+[nrt])*(?:[A-Za-z-]+: [^\n\\]*(?:[\s]|[\\]+[nr])+)*[A-Za-z0-9+/=\s\\\"',]{64}"
)
_FORMS = (
    SecretForm(
        "a private key",
        b"PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----" + _BASE64_LINES,
        shown=31,
    ),
    SecretForm(
        "a private key of PuTTY",
        b"PuTTY-User-Key",
        r"PuTTY-User-Key-File-\d: [\s\S]{0,4000}?Private-Lines: \d",
        shown=22,
    ),
    SecretForm(
        "a private key of age",
        "-(?<=AGE-)SECRET-KEY-1",
        r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}",
        shown=16,
    ),
    SecretForm(
        "an access key of AWS",
        "I(?<=A[KS]I)A[A-Z2-7]{16}",
        rf"{_START}(?P<id>A(?:KIA|SIA)[A-Z2-7]{{16}}){_END}",
        is_aws_pair,
    ),
    SecretForm(
        "a key of an Azure account",
        "=(?<=AccountKey=)",
        r"AccountKey=(?P<secret>[A-Za-z0-9+/]{86}==)",
        is_no_emulators,
        15,
    ),
    SecretForm(
        "a shared access key of Azure",
        "=(?<=SharedAccessKey=)",
        r"SharedAccessKey=(?P<secret>[A-Za-z0-9+/]{43}=)",
        is_no_emulators,
        20,
    ),
    SecretForm(
        "a shared access signature of Azure",
        "=(?<=sig=)[A-Za-z0-9%/+]{43}",
        r"[?&]sig=(?P<secret>(?:[A-Za-z0-9/+]|%[0-9A-Fa-f]{2}){43,60}(?:=|%3[Dd]))",
        is_signature,
        9,
    ),
    SecretForm(
        "a client secret of Azure",
        r"~(?<=Q~)[A-Za-z0-9_.~-]{31}",
        r"(?<![\w.~-])(?P<secret>[\w.~-]{3}\dQ~[\w.~-]{31,34})(?![\w.~-])",
        is_random,
        3,
    ),
    SecretForm(
        "a token of GitHub",
        "_(?<=gh[opusr]_)[A-Za-z0-9]{36}",
        rf"{_START}gh[opusr]_(?P<secret>[A-Za-z0-9]{{36}}){_END}",
        has_checksum,
    ),
    _token("a token of GitHub", "github_pat_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    SecretForm(
        "a token of npm",
        "_(?<=npm_)[A-Za-z0-9]{36}",
        rf"{_START}npm_(?P<secret>[A-Za-z0-9]{{36}}){_END}",
        has_checksum,
    ),
    SecretForm(
        "a token of npm", "=(?<=_authToken=)", r"_authToken=(?P<secret>[\w+/=.-]{20,})", is_random, 11
    ),
    _token("a token of GitLab", "gl(?:pat|dt|rt|ptt|soat)-", r"[\w-]{20,}(?:\.[\w.]+)?"),
    SecretForm(
        "a token of Hugging Face",
        "_(?<=hf_)[A-Za-z]{34}",
        rf"{_START}hf_(?P<secret>[A-Za-z]{{34}}){_END}",
        is_random,
        5,
    ),
    _token("a key of Anthropic", "sk-ant-", r"[a-z]+\d\d-[\w-]{93}AA"),
    SecretForm(
        "a key of OpenAI",
        "F(?<=T3BlbkF)J",
        rf"{_START}sk-(?P<secret>[\w-]{{20,}}T3BlbkFJ[\w-]{{20,}}){_END}",
        is_random,
    ),
    _token("a key of OpenRouter", "sk-or-v1-", r"[0-9a-f]{64}"),
    _token("a key of Groq", "gsk_", r"[A-Za-z0-9]{52}"),
    _token("a token of Replicate", "r8_", r"[A-Za-z0-9]{37}"),
    _token("a key of NVIDIA", "nvapi-", r"[\w-]{60,70}"),
    _token("a key of LangSmith", "lsv2_(?:pt|sk)_", r"[0-9a-f]{32}_[0-9a-f]{10}"),
    _token("a token of Databricks", "dapi", r"[0-9a-f]{32}", b"dapi"),
    _token("a key of Weights & Biases", "wandb_v1_", r"\w{60,90}"),
    SecretForm(
        "a key of Weights & Biases",
        b"WANDB_API_KEY",
        rf"WANDB_API_KEY[\"']?\]?\s*[=:,]\s*[\"']?(?P<secret>[0-9a-f]{{40}}){_END}",
        is_random,
        13,
    ),
    _token("a token of Slack", "xox(?:a|b|e|o|p|r|s)-", r"(?:\d+-)+[A-Za-z0-9-]{18,}"),
    SecretForm(
        "a webhook of Slack",
        r"/(?<=hooks\.slack\.com/)services/T",
        r"hooks\.slack\.com/services/(?P<secret>T\w{8,}/B\w{8,}/\w{24})",
        is_random,
        27,
    ),
    _token("a token of PyPI", "pypi-", r"AgE[\w-]{60,}"),
    _token("a token of DigitalOcean", "do(?:o|p|r)_v1_", r"[0-9a-f]{64}"),
    _token("a token of Docker", "dckr_(?:pat|oat)_", r"[\w-]{27,}"),
    SecretForm(
        "a key of SendGrid",
        r"\.(?<=SG\.)[A-Za-z0-9_-]{22}\.",
        rf"{_START}SG\.(?P<secret>[\w-]{{22}}\.[\w-]{{43}})(?![\w-])",
        is_random,
        5,
    ),
    _token("a key of Stripe", "(?:rk|sk)_live_", r"[A-Za-z0-9]{24,}"),
    _token("a token of Vault", r"hvs\.", r"[\w-]{90,}"),
    SecretForm(
        "a key of Google",
        r"I(?<=AI)za[A-Za-z0-9_-]{35}",
        r"(?<![\w-])AIza(?P<secret>[\w-]{35})(?![\w-])",
        is_random,
    ),
    SecretForm(
        "a token of Google",
        r"\.(?<=ya29\.)[A-Za-z0-9_-]{60}",
        r"(?<![\w-])ya29\.(?P<secret>[\w.-]{60,})",
        is_random,
        5,
    ),
    SecretForm(
        "a client secret of Google",
        "-(?<=GOCSPX-)",
        r"(?<![\w-])GOCSPX-(?P<secret>[\w-]{28})(?![\w-])",
        is_random,
        7,
    ),
    SecretForm(
        "a refresh token of Google",
        r"/(?<=1/)/0[A-Za-z0-9_-]{40}",
        r"(?<![\w/-])1//0(?P<secret>[\w-]{40,})",
        is_random,
        5,
    ),
    SecretForm(
        "a token of Anaconda",
        r"/(?<=[a-z]/)t/[a-z]{2}-[0-9a-f]{8}-",
        r"/t/(?P<secret>[a-z]{2}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
        is_random,
        6,
    ),
    SecretForm(
        "a password as in .netrc",
        b"machine",
        r"machine\s+[\w.-]+\s+login\s+\S+\s+password\s+(?P<secret>\S+)",
        is_password,
        len("machine "),
    ),
    SecretForm(
        "a kubeconfig's key",
        b"client-key-data",
        r"client-key-data[\"']?:\s*[\"']?(?P<secret>LS0t[A-Za-z0-9+/=]{200})",
        None,
        16,
    ),
    SecretForm(
        "a kubeconfig's token",
        b"clusters:",
        r"(?m)^\s*token: *(?P<secret>[\w.~-]{20,})\s*$",
        is_in_kubeconfig,
        7,
    ),
    SecretForm(
        "a registry's password",
        b'"auth"',
        r"\"auth\"\s*:\s*\"(?P<secret>[A-Za-z0-9+/]{8,}={0,2})\"",
        is_docker_auth,
        8,
    ),
    SecretForm(
        "a password in a URL",
        r":(?<=[A-Za-z0-9]:)//[^\s/:@'\"`<>()\[\]{}|^$*,;\\?#]{1,100}:[^\s/@'\"`<>()\[\]{}|^$*\\?#]{1,200}@",
        r"\b(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^\s/:@'\"`<>()\[\]{}|^$*,;\\?#]{1,100})"
        r":(?P<secret>[^\s/@'\"`<>()\[\]{}|^$*\\?#]{1,200})@(?P<host>[A-Za-z0-9_.-]+|\[)",
        is_real_login,
    ),
)


#: What follows the character that an expression begins with: few of those in a text are before a long word.
_LONG_WORD = {
    "_": r"(?=\w{20})",
    "-": r"(?=\w[\w-]{19})",
    r"\.": r"(?=\w[\w-]{19})",
    "=": "(?=[A-Za-z0-9%/+]{20})",
}


def _quick() -> re.Pattern[bytes]:
    """One expression for all forms, each by a character that is rare in texts: that makes it fast."""
    by_first: dict[str, list[str]] = {}
    for form in _FORMS:
        if isinstance(form.first, str):
            length = 2 if form.first.startswith("\\") else 1
            by_first.setdefault(form.first[:length], []).append(form.first[length:])
    branches = (f"{first}{_LONG_WORD.get(first, '')}(?:{'|'.join(rest)})" for first, rest in by_first.items())
    return re.compile("|".join(branches).encode())


_QUICK = _quick()
_LITERALS = tuple(form.first for form in _FORMS if isinstance(form.first, bytes))


def find_secrets(text: bytes) -> list[SecretFound]:
    """All that are in a text, in its order."""
    literals = [literal for literal in _LITERALS if literal in text]
    if not literals and not _QUICK.search(text):
        return []
    return sorted(_found(text, literals), key=lambda found: found.line)


def _found(text: bytes, literals: Sequence[bytes]) -> Iterator[SecretFound]:
    for form in _FORMS:
        if (
            form.first not in literals
            if isinstance(form.first, bytes)
            else not re.search(form.first.encode(), text)
        ):
            continue
        for match in re.finditer(form.whole.encode(), text):
            if form.is_one is None or form.is_one(match):
                begins = match[0][: form.shown]
                if "user" in match.groupdict():
                    begins = match["scheme"] + b"://" + match["user"] + b":"
                yield SecretFound(
                    text.count(b"\n", 0, match.start()) + 1,
                    form.kind,
                    begins.decode("utf-8", "replace").splitlines()[0],
                )
