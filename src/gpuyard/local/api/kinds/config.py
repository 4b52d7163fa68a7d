"""ConfigMaps, Secrets and ServiceAccounts."""

from __future__ import annotations

from gpuyard.kube.objects import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS
from gpuyard.local.api.kinds.kind import KindSpec

CONFIG_MAP = KindSpec(resource=CONFIG_MAPS, short_names=("cm",))
SECRET = KindSpec(resource=SECRETS, selectable_fields=frozenset(("type",)))
SERVICE_ACCOUNT = KindSpec(resource=SERVICE_ACCOUNTS, short_names=("sa",))
