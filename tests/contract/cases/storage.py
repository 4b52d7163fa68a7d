"""PersistentVolumeClaims, PersistentVolumes and StorageClasses: rules, binding, and what holds a claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said

_CLAIMS, _VOLUMES, _CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses"
_WAIT = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def _claim_spec(storage_class: str | None, **fields: Any) -> dict[str, Any]:
    size = {"requests": {"storage": fields.pop("size", "1Gi")}}
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": size,
        **({} if storage_class is None else {"storageClassName": storage_class}),
        **fields,
    }


def _claim(api: Api, **fields: Any) -> Any:
    """One that only a volume of the case's own class suits."""
    return api.make(_CLAIMS, spec=_claim_spec(api.name, **fields))


def _claim_refused(api: Api, **fields: Any) -> Any:
    return said(api.post(_CLAIMS, api.object(_CLAIMS, spec=_claim_spec(api.name, **fields))))


def _volume_spec(api: Api, **fields: Any) -> dict[str, Any]:
    return {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "storageClassName": api.name,
        "hostPath": {"path": "/var/tmp", "type": "Directory"},
        **fields,
    }


def _volume(api: Api, **fields: Any) -> Any:
    return api.make(_VOLUMES, spec=_volume_spec(api, **fields))


def _volume_refused(api: Api, **fields: Any) -> Any:
    spec = {name: value for name, value in _volume_spec(api, **fields).items() if value is not None}
    return said(api.post(_VOLUMES, api.object(_VOLUMES, spec=spec)))


def _in_phase(api: Api, plural: str, phase: str) -> Any:
    return api.until(f"{plural}/{api.name}", lambda found: pick(found, "status.phase") == phase)


def _remove(api: Api, *plurals: str) -> None:
    """What is in no namespace doesn't go with it."""
    for plural in plurals:
        api.delete(f"{plural}/{api.name}")
        api.until_gone(f"{plural}/{api.name}")


# -- rules ----------------------------------------------------------------------------------------------


def claim_defaults(api: Api) -> Any:
    """What a claim gets besides what it says."""
    made = _claim(api)
    return [made["spec"], made["status"], made["metadata"]["finalizers"]]


def claim_without_modes(api: Api) -> Any:
    """A claim says how it is used."""
    return _claim_refused(api, accessModes=[])


def claim_with_an_unknown_mode(api: Api) -> Any:
    """By the modes that there are."""
    return _claim_refused(api, accessModes=["ReadWriteSometimes"])


def claim_for_one_pod_and_more(api: Api) -> Any:
    """ReadWriteOncePod goes with no other mode."""
    return _claim_refused(api, accessModes=["ReadWriteOncePod", "ReadOnlyMany"])


def claim_without_size(api: Api) -> Any:
    """A claim says how large it is."""
    return _claim_refused(api, resources={})


def claim_of_nothing(api: Api) -> Any:
    """Its size is above zero."""
    return _claim_refused(api, size="0")


def claim_of_an_unknown_volume_mode(api: Api) -> Any:
    """A volume mode that there isn't is refused with those that there are."""
    return _claim_refused(api, volumeMode="Tape")


def claim_is_frozen(api: Api) -> Any:
    """What a claim asks for is for good."""
    _claim(api)
    answer = api.patch(f"{_CLAIMS}/{api.name}", {"spec": {"accessModes": ["ReadWriteMany"]}})
    # The message has the whole difference in Go's own words.
    return [answer.code, pick(answer.body, "reason", "details.causes.0.field", "details.causes.0.reason")]


def volume_defaults(api: Api) -> Any:
    """What a volume gets besides what it says."""
    made = _volume(api)
    _remove(api, _VOLUMES)
    return [made["spec"], pick(made, "status.phase"), made["metadata"]["finalizers"]]


def volume_without_capacity(api: Api) -> Any:
    """A volume says how large it is."""
    return _volume_refused(api, capacity=None)


def volume_without_modes(api: Api) -> Any:
    """A volume says how it can be used."""
    return _volume_refused(api, accessModes=None)


def volume_without_source(api: Api) -> Any:
    """A volume says where it is."""
    return _volume_refused(api, hostPath=None)


def volume_with_a_way_up(api: Api) -> Any:
    """A path doesn't go up."""
    return _volume_refused(api, hostPath={"path": "/srv/../etc"})


def volume_with_an_unknown_policy(api: Api) -> Any:
    """A policy that there isn't is refused with those that there are."""
    return _volume_refused(api, persistentVolumeReclaimPolicy="Burn")


def class_defaults(api: Api) -> Any:
    """What a class gets besides what it says."""
    made = api.make(_CLASSES, provisioner="example.com/nobody")
    _remove(api, _CLASSES)
    return pick(made, "provisioner", "reclaimPolicy", "volumeBindingMode", "allowVolumeExpansion")


def class_without_provisioner(api: Api) -> Any:
    """A class says who makes its volumes."""
    return said(api.post(_CLASSES, api.object(_CLASSES)))


def class_is_frozen(api: Api) -> Any:
    """What a class says of its volumes is for good."""
    api.make(_CLASSES, provisioner="example.com/nobody")
    answer = said(api.patch(f"{_CLASSES}/{api.name}", {"reclaimPolicy": "Retain"}))
    _remove(api, _CLASSES)
    return answer


def default_class(api: Api) -> Any:
    """A claim that names no class gets the default one, the newest."""
    metadata = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    api.make(_CLASSES, provisioner="example.com/nobody", metadata=metadata)
    asked = {"a-of-none": None, "b-of-no": ""}
    answers = [api.make(_CLAIMS, name, spec=_claim_spec(class_)) for name, class_ in asked.items()]
    _remove(api, _CLASSES)
    return [pick(answer, "spec.storageClassName") for answer in answers]


# -- binding --------------------------------------------------------------------------------------------


def claim_is_bound(api: Api) -> Any:
    """A claim and a volume that suits it are bound to each other; the claim has the volume's size."""
    _volume(api)
    _claim(api)
    claim, volume = _in_phase(api, _CLAIMS, "Bound"), _in_phase(api, _VOLUMES, "Bound")
    seen = [
        pick(claim, "spec.volumeName", "status.capacity", "status.accessModes"),
        sorted(claim["metadata"]["annotations"]),
        pick(
            volume,
            "spec.claimRef.kind",
            "spec.claimRef.name",
            "spec.claimRef.namespace",
            "spec.claimRef.apiVersion",
        ),
        pick(volume, "spec.claimRef.uid") == claim["metadata"]["uid"],
    ]
    _remove(api, _CLAIMS, _VOLUMES)
    return seen


def volume_is_released(api: Api) -> Any:
    """A volume to be retained is released when its claim has gone, and no other claim gets it."""
    _volume(api)
    _claim(api)
    _in_phase(api, _CLAIMS, "Bound")
    _remove(api, _CLAIMS)
    volume = _in_phase(api, _VOLUMES, "Released")
    _remove(api, _VOLUMES)
    return pick(volume, "status.phase", "spec.claimRef.name", "spec.persistentVolumeReclaimPolicy")


def too_small_a_volume(api: Api) -> Any:
    """A claim waits as long as no volume is large enough."""
    _volume(api, capacity={"storage": "1Mi"})
    _claim(api)
    volume = _in_phase(api, _VOLUMES, "Available")
    seen = [pick(volume, "status.phase"), pick(api.read(f"{_CLAIMS}/{api.name}"), "status.phase")]
    _remove(api, _CLAIMS, _VOLUMES)
    return seen


def bound_volume_stays(api: Api) -> Any:
    """A volume that is removed while it is bound stays until its claim has gone."""
    _volume(api)
    _claim(api)
    _in_phase(api, _VOLUMES, "Bound")
    api.delete(f"{_VOLUMES}/{api.name}")
    volume = api.read(f"{_VOLUMES}/{api.name}")
    api.delete(f"{_CLAIMS}/{api.name}")
    api.until_gone(f"{_VOLUMES}/{api.name}")
    return ["deletionTimestamp" in volume["metadata"], volume["metadata"]["finalizers"]]


# -- pods -----------------------------------------------------------------------------------------------


def _with_claim(api: Api) -> Mapping[str, Any]:
    return {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": api.name}}],
        "main": {"volumeMounts": [{"name": "data", "mountPath": "/tmp/data"}]},
    }


def pod_without_its_claim(api: Api) -> Any:
    """A pod whose claim isn't there isn't placed, and says so."""
    api.pod(**_with_claim(api))
    pod = api.until_condition(f"pods/{api.name}", "PodScheduled", "False")
    [condition] = [c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled"]
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    said_of = f'persistentvolumeclaim "{api.name}" not found'
    return [condition["reason"], said_of in condition["message"], pick(pod, "status.phase")]


def pod_holds_its_claim(api: Api) -> Any:
    """A claim that is removed stays until the pod that has it is removed, though it has ended."""
    _volume(api)
    _claim(api)
    _in_phase(api, _CLAIMS, "Bound")
    api.pod("exit 0", **_with_claim(api))
    api.until_phase("Succeeded")
    api.delete(f"{_CLAIMS}/{api.name}")
    claim = api.read(f"{_CLAIMS}/{api.name}")
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    api.until_gone(f"{_CLAIMS}/{api.name}")
    _remove(api, _VOLUMES)
    return [
        "deletionTimestamp" in claim["metadata"],
        claim["metadata"]["finalizers"],
        pick(claim, "status.phase"),
    ]


def data_stay(api: Api) -> Any:
    """What one pod writes the next one reads."""
    _volume(api)
    _claim(api)
    file = f"/tmp/data/gy-{api.name}-$(id -u)"
    for number, script in enumerate((f"echo kept >{file}", f"cat {file} && rm {file}")):
        api.pod(script, name=f"{api.name}-{number}", **_with_claim(api))
        api.until_phase("Succeeded", f"{api.name}-{number}")
    log = api.read(f"pods/{api.name}-1/log")
    for number in range(2):
        api.delete(f"pods/{api.name}-{number}", {"gracePeriodSeconds": 0})
    _remove(api, _CLAIMS, _VOLUMES)
    return log


def tables(api: Api) -> Any:
    """As kubectl shows them."""
    _volume(api)
    _claim(api)
    _in_phase(api, _CLAIMS, "Bound")
    api.make(_CLASSES, provisioner="example.com/nobody")
    seen = {}
    for plural in (_CLAIMS, _VOLUMES, _CLASSES):
        found = api.table(f"{plural}/{api.name}")
        columns = [column["name"] for column in found["columnDefinitions"]]
        cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
        seen[plural] = {name: cell for name, cell in cells.items() if name != "Age"}
    _remove(api, _CLAIMS, _VOLUMES, _CLASSES)
    return seen
