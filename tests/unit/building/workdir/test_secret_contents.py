"""Secrets by what a text holds. Those here are made when a test runs: none is anybody's."""

from __future__ import annotations

import base64
import random
import re
import string
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from gpuyard.building.workdir.secret_contents import _FORMS, find_secrets

LETTERS, HEX, DIGITS = string.ascii_letters, "0123456789abcdef", "7261904835162"
ALNUM = string.digits + string.ascii_uppercase + string.ascii_lowercase


def made(count: int, of: str = ALNUM) -> str:
    """As a generator makes them: nothing that a person would write."""
    value = "".join(random.Random(count * 7 + len(of)).choices(of, k=count))
    assert len(set(value)) > 7
    return value


def checked(prefix: str) -> str:
    """A token of GitHub or npm."""
    value, number, checksum = made(30), 0, ""
    number = zlib.crc32(value.encode())
    for _ in range(6):
        number, digit = divmod(number, 62)
        checksum = ALNUM[digit] + checksum
    return f"{prefix}_{value}{checksum}"


def pem(kind: str, newline: str = "\n") -> str:
    lines = [made(64, ALNUM + "+/") for _ in range(4)]
    return newline.join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


def basic(login: str) -> str:
    return base64.b64encode(login.encode()).decode()


BASE32 = string.ascii_uppercase + "234567"
KEY, BEGIN = made(64), "-----BEGIN"
#: Kind → text; what is behind a # tells texts of one kind apart.
SECRETS = {
    **{
        f"a private key#{kind}": pem(kind)
        for kind in ("PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
    },
    "a private key#pgp": f"{BEGIN} PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{KEY}\n{KEY}",
    "a private key#legacy": f"{BEGIN} RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\n{KEY}",
    "a private key#json": '{"type": "service_account", "key": "' + pem("PRIVATE KEY", "\\n") + '"}',
    "a private key#notebook": '"key = \\"' + pem("PRIVATE KEY", "\\\\n") + '\\"\\n",',
    "a private key#python": 'KEY = ("' + pem("PRIVATE KEY", '\\n"\n    "') + '")',
    "a private key#windows": pem("PRIVATE KEY", "\r\n"),
    "a private key of PuTTY": f"PuTTY-User-Key-File-3: rsa\nPublic-Lines: 1\n{KEY}\nPrivate-Lines: 1\n{KEY}",
    "a private key of age": "AGE-SECRET-KEY-1" + made(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
    "an access key of AWS": f"key_id = AKIA{made(16, BASE32)}\naws_secret_access_key = {made(40)}",
    "an access key of AWS#json": f'{{"Id": "ASIA{made(16, BASE32)}", "SecretAccessKey": "{made(40)}"}}',
    "a key of an Azure account": f"AccountName=me;AccountKey={made(86)}==;EndpointSuffix=core.windows.net",
    "a shared access key of Azure": f"SharedAccessKeyName=k;SharedAccessKey={made(43)}=",
    "a shared access signature of Azure": f"https://me.blob.core.windows.net/c?sv=2022-11-02&sig={made(43)}%3D",
    "a client secret of Azure": f'client_secret = "{made(34)[:3]}8Q~{made(34)}"',
    **{f"a token of GitHub#{kind}": checked(f"gh{kind}") for kind in "opusr"},
    "a token of GitHub#fine": f"github_pat_{made(22)}_{made(59)}",
    "a token of GitHub#url": f"https://x-access-token:{checked('ghs')}@github.com/me/it",
    "a token of npm": f"token: {checked('npm')}",
    "a token of npm#npmrc": f"//registry.corp.io/:_authToken={made(36)}",
    "a token of GitLab": f"glpat-{made(20)}",
    "a token of GitLab#routable": f"glpat-{made(27)}.01.{made(9)}",
    "a token of Hugging Face": f'HF_TOKEN="hf_{made(34, LETTERS)}"',
    "a key of Anthropic": f"sk-ant-api03-{made(93)}AA",
    "a key of OpenAI": f"OPENAI_API_KEY=sk-proj-{made(74)}T3BlbkFJ{made(74)}",
    "a key of OpenAI#old": f"openai.api_key = 'sk-{made(20)}T3BlbkFJ{made(20)}'",
    "a key of OpenRouter": f"sk-or-v1-{made(64, HEX)}",
    "a key of Groq": f"gsk_{made(52)}",
    "a token of Replicate": f"r8_{made(37)}",
    "a key of NVIDIA": f"nvapi-{made(64)}",
    "a key of LangSmith": f"lsv2_pt_{made(32, HEX)}_{made(32, HEX)[:10]}",
    "a token of Databricks": f"DATABRICKS_TOKEN=dapi{made(32, HEX)}",
    "a key of Weights & Biases": f"wandb_v1_{made(77)}",
    "a key of Weights & Biases#old": f'os.environ["WANDB_API_KEY"] = "{made(40, HEX)}"',
    "a key of Weights & Biases#sh": f"export WANDB_API_KEY={made(40, HEX)}",
    "a token of Slack": f"xoxb-{DIGITS}-{DIGITS}-{made(24)}",
    "a webhook of Slack": f"https://hooks.slack.com/services/T{made(10)}/B{made(10)}/{made(24)}",
    "a token of PyPI": f"password = pypi-AgEIcHlwaS5vcmc{made(120)}",
    "a token of DigitalOcean": f"dop_v1_{made(64, HEX)}",
    "a token of Docker": f"dckr_pat_{made(27)}",
    "a key of SendGrid": f"SG.{made(22)}.{made(43)}",
    "a key of Stripe": f"sk_live_{made(24)}",
    "a token of Vault": f"hvs.{made(95)}",
    "a key of Google": f'genai.configure(api_key="AIza{made(35)}")',
    "a token of Google": f"ya29.{made(120)}",
    "a client secret of Google": f'"client_secret": "GOCSPX-{made(28)}"',
    "a refresh token of Google": f'"refresh_token": "1//0{made(60)}"',
    "a token of Anaconda": f"https://conda.anaconda.org/t/me-9c1f04b7-4e1b-4a1b-8c2d-{made(32, HEX)[:12]}/me",
    "a password as in .netrc": f"machine api.wandb.ai\n  login user\n  password {made(40, HEX)}\n",
    "a password as in .netrc#one line": "machine pypi.corp.io login me password hunt-the-wumpus7",
    "a kubeconfig's key": f"users:\n- user:\n    client-key-data: {basic(pem('RSA PRIVATE KEY'))}\n",
    "a kubeconfig's token": f"clusters:\n- name: a\nusers:\n- user:\n    token: {made(40)}\n",
    "a registry's password": '{"auths": {"ghcr.io": {"auth": "' + basic(f"me:{made(20)}") + '"}}}',
    "a password in a URL": "[global]\nindex-url = https://ci-reader:Wq8-vmT2@pypi.corp.io/simple\n",
    "a password in a URL#pip": f"--extra-index-url https://__token__:{made(24)}@pypi.corp.io/simple\ntorch\n",
    "a password in a URL#git": "\turl = https://deploy:k3Tp-9wq@git.corp.io/me/it.git\n",
    "a password in a URL#condarc": "channels:\n  - https://ci:Wq8%40vmT2@conda.corp.io/main\n",
    "a password in a URL#database": f'create_engine("postgresql+psycopg2://app:{made(16)}@db:5432/app")',
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found_with_its_line_and_not_told(name: str) -> None:
    text = SECRETS[name]
    whole = f"first line\n\n{text}\nlast line\n".encode()
    (found,) = find_secrets(whole)[:1]
    assert find_secrets(whole, one_of_many=True) == find_secrets(whole)
    assert found.kind == name.partition("#")[0]
    expected = next(number for number, line in enumerate(text.splitlines(), 3) if found.begins in line)
    assert found.line == expected
    assert len(found.begins) < 35
    told = re.sub(
        r"-----BEGIN [A-Z ]*|machine |https://[\w-]+:|postgresql\+psycopg2://app:", "", found.begins
    )
    assert len(told) <= 27


def test_every_form_is_tried() -> None:
    assert {form.kind for form in _FORMS} == {name.partition("#")[0] for name in SECRETS}


HARMLESS = r"""
-----BEGIN CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
if b"PRIVATE KEY" in head: "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----"
AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
ghp_0123456789abcdefghijABCDEFGHIJ012345
github_pat_11ABCDEFG0123456789abc_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx hf_your_token_here hf_hub_download_with_a_very_long_function_name
sk-ant-api03-your-key-here sk-proj-... sk-xxxxxxxxxxxxxxxxxxxxT3BlbkFJxxxxxxxxxxxxxxxxxxxx
xoxb-your-token xoxb-123456789012-1234567890123-abcdefghijklmnopqrstuvwx
https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX
https://user:password@example.com/simple http://user:pass@localhost:8080 https://me:s3cret@host
https://${USER}:${TOKEN}@pypi.corp.io https://{user}:{password}@pypi.corp.io https://%s:%s@pypi.corp.io
postgres://postgres:postgres@db:5432/app redis://:redis@redis:6379 amqp://guest:guest@rabbit
git+https://github.com/pallets/click@8.1.7 git+ssh://git@github.com/me/it.git http://[::1]:8080/@x
https://host:8080/path@v1 https://example.com:443/user:pass@x sqlite:///tmp/a:b@c
AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==
machine host login user password pass
machine learning login page password reset
//registry.npmjs.org/:_authToken=${NPM_TOKEN}
{"auths": {"https://index.docker.io/v1/": {}}} {"auth": "none"} {"auth": "required1"}
token: ${{ secrets.GITHUB_TOKEN }}
eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U
"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" WANDB_API_KEY=<your key>
pypi-AgEIcHlwaS5vcmcCJ... dapi00000000000000000000000000000000 nvapi-xxxxxxxxxxxxxxxx
"""


@pytest.mark.parametrize("line", [line for line in HARMLESS.splitlines() if line])
def test_what_documents_and_tests_write_is_none(line: str) -> None:
    assert find_secrets(line.encode()) == []


@pytest.mark.parametrize("many", [False, True])
def test_the_standard_librarys_own_modules_have_none(many: bool) -> None:
    """Hundreds of files that handle logins, without a false alarm."""
    root = Path(subprocess.__file__).parent
    modules = [
        file for file in root.rglob("*.py") if not {"test", "tests", "site-packages"} & set(file.parts)
    ]
    assert len(modules) > 300
    assert {
        file: found for file in modules if (found := find_secrets(file.read_bytes(), one_of_many=many))
    } == {}


@pytest.mark.parametrize("alphabet", [b"+/", b"-_"])
def test_pictures_in_a_notebook_have_none(alphabet: bytes) -> None:
    picture = base64.b64encode(random.Random(7).randbytes(2_000_000), alphabet)
    assert find_secrets(b'"image/png": "' + picture + b'"', one_of_many=True) == []


def test_all_of_one_file_are_told_in_order() -> None:
    text = "\n".join(
        [SECRETS["a token of Slack"], "", SECRETS["a key of Stripe"], SECRETS["a token of Slack"]]
    )
    assert [(found.line, found.kind) for found in find_secrets(text.encode())] == [
        (1, "a token of Slack"),
        (3, "a key of Stripe"),
        (4, "a token of Slack"),
    ]


#: Ends by processor time: on a busy machine nothing takes as long as it should.
_MANY = r"""
import resource
resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
from gpuyard.building.workdir.secret_contents import _SIGNS, find_secrets
words = sorted({sign for _, signs in _SIGNS for sign in signs})
heads = [b"", b"-----BEGIN PRIVATE KEY-----", b"xoxb-", b"sk-", b"PuTTY-User-Key-File-2: "]
units = [b"a.", b"1-", b"A ", b"a: ", b"\\\\n", b"\n", b" ", b"\t", b"-", b"=", b"http://x:", b"a:b@"]
for head in heads:
    for unit in units:
        count = 10_000 if head else 600_000 // len(unit)
        find_secrets(b" ".join(words) + b"\n" + head + unit * count + b"_!")
        find_secrets(b" ".join(words) + b"\n" + (head + unit) * 4_000 + b"_!")
"""


def test_no_text_keeps_the_search_busy() -> None:
    """What is quadratic, or worse, in what a text repeats doesn't end; these take seconds together."""
    assert subprocess.run([sys.executable, "-c", _MANY]).returncode == 0
