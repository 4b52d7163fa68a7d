"""The list of names that look like secrets, name by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard.building.workdir.secret_names import looks_secret

SECRET = """
.env  .env.local  .env.production  prod.env  .envrc  sub/.env  .ENV  .env.bak  .env~  id_rsa  id_rsa.bak
id_rsa.old  id_rsa_work  id_rsa.txt  id_dsa  id_ecdsa  id_ecdsa_sk  id_ed25519  id_ed25519_sk
id_ed25519.1  keys/id_ed25519-deploy  work.ppk  .ssh/config  cert.p12  cert.pfx  trust.jks
release.keystore  passwords.kdbx  http.keytab  secring.gpg  kubeconfig  Kubeconfig  kubeconfig.yaml
kubeconfig.yml  kubeconfig.json  kubeconfig-prod.yaml  prod.kubeconfig  prod-kubeconfig.yaml  .kube/config
home/.kube/config  admin.conf  admin.conf.bak  super-admin.conf  credentials  aws/credentials
.aws/credentials  credentials.json  credentials.csv  credentials.yaml  me_accessKeys.csv  rootkey.csv
service-account.json  service_account.json  service-account-prod.json  my-service-account.json
client_secret_123.json  application_default_credentials.json  terraform.tfstate  terraform.tfstate.backup
.boto  .s3cfg  .netrc  _netrc  .pypirc  .npmrc  .git-credentials  .dockercfg  .dockerconfigjson
.docker/config.json  .pgpass  .my.cnf  .htpasswd  .vault-token  kaggle.json  .kaggle/kaggle.json
.huggingface/token  .cache/huggingface/token  secrets.yaml  secrets.yml  secrets.toml  secrets.json
.streamlit/secrets.toml
"""

HARMLESS = """
id_rsa.pub  id_ed25519.pub  id_rsa_loader.py  kubeconfig.py  kubeconfig.go  credentials.py
credentials.ipynb  credentials.md  test_credentials.py  aws_credentials.py  credentials/provider.yaml
secrets.py  secrets/notes.txt  .env.example  .env.sample  .env.template  .env.dist  .env.defaults
example.env  credentials.example.json  credentials-template.yaml  kubeconfig_sample.yaml
kubeconfig.example  environment.yml  env.py  env.yaml  environment.env.py  tokens.py  kube.py  config
config.json  docker/config.json  kube/config.yaml  ssh_config  known_hosts  nginx.conf  administrator.conf
app.conf  tokenizer.json  token  token.txt  identity.py  identities.csv  idx_rsa  kaggle.py
data/id_1234.csv  secret_santa.txt  access.csv  state.tfvars  train.py  requirements.txt  pyproject.toml
"""


@pytest.mark.parametrize("path", SECRET.split())
def test_a_secret(tmp_path: Path, path: str) -> None:
    assert looks_secret(tmp_path, path)


@pytest.mark.parametrize("path", HARMLESS.split())
def test_not_a_secret(tmp_path: Path, path: str) -> None:
    assert not looks_secret(tmp_path, path)


@pytest.mark.parametrize("name", ["a.pem", "a.key", "a.p8", "a.pem.bak"])
def test_keys_are_told_by_what_they_hold(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("-----BEGIN CERTIFICATE-----")
    assert not looks_secret(tmp_path, name)
    (tmp_path / name).write_text("-----BEGIN EC PRIVATE KEY-----")
    assert looks_secret(tmp_path, name)
    (tmp_path / name).unlink()
    assert looks_secret(tmp_path, name)
