"""Volumes with what a ConfigMap holds: files in the pod's folder, written once, before its first start.

Source: kubernetes `pkg/volume/configmap/configmap.go`. A cluster's kubelet also brings later changes in; here
a pod keeps what there was when it started.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import CONFIG_MAPS, Manifest, key_of
from gpuyard.local.kubelet.context import KubeletContext
from gpuyard.local.kubelet.pod_folders import PodFolder, VolumeFile

_READABLE = 0o444


async def write_config_maps(context: KubeletContext, pod: Manifest, folder: PodFolder) -> None:
    """Writes all of a pod's volumes of this kind.

    Raises:
        MountError: a ConfigMap or one of its keys isn't there (yet), or the files can't be written.
    """
    spec = pod["spec"]
    # On a cluster the files belong to that group. Here nobody else comes near the pod's folder.
    widened = _READABLE if (spec.get("securityContext") or {}).get("fsGroup") is not None else 0
    for volume in spec.get("volumes") or ():
        if (source := volume.get("configMap")) is None:
            continue
        try:
            config_map: Manifest = await context.api.get(CONFIG_MAPS, source["name"], key_of(pod).namespace)
        except errors.NotFound:
            if not source.get("optional"):
                raise _failed(volume, f'configmap "{source["name"]}" not found') from None
            config_map = {}
        files = list(_files(volume, source, config_map, widened))
        await asyncio.to_thread(folder.write_volume, volume["name"], files)


def _files(
    volume: Mapping[str, Any], source: Mapping[str, Any], config_map: Manifest, widened: int
) -> Iterator[VolumeFile]:
    content = {key: text.encode() for key, text in (config_map.get("data") or {}).items()}
    binary = config_map.get("binaryData") or {}
    content |= {key: base64.b64decode(text) for key, text in binary.items()}
    usual = source.get("defaultMode", 0o644)
    items = source.get("items") or [{"key": key, "path": key} for key in content]
    for item in items:
        if item["key"] in content:
            mode = item.get("mode", usual) | widened
            yield VolumeFile(item["path"], content[item["key"]], mode)
        elif not source.get("optional"):
            raise _failed(volume, f"configmap references non-existent config key: {item['key']}")


def _failed(volume: Mapping[str, Any], why: str) -> errors.MountError:
    return errors.MountError(
        f'MountVolume.SetUp failed for volume "{volume["name"]}" : {why}',
        remedy="create it: the pod waits for it",
    )
