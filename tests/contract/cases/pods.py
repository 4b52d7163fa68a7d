"""Pods as objects: defaults, rules, what an update may change, binding, and admission."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import conditions, pick, said, without


def _refused(api: Api, **fields: Any) -> Any:
    return said(api.post("pods", api.object("pods", spec=api.pod_spec(schedulerName="nobody", **fields))))


def defaults(api: Api) -> Any:
    """What a pod's spec is completed with."""
    spec = api.made(
        api.post(
            "pods",
            api.object(
                "pods",
                spec={**api.runtime(), "schedulerName": "nobody", "containers": [api.container("main")]},
            ),
        )
    )["spec"]
    container = without(spec["containers"][0], "imagePullPolicy", "volumeMounts")
    return [without(spec, "containers", "runtimeClassName", "volumes"), container]


def account_token(api: Api) -> Any:
    """A pod gets the token of its ServiceAccount in a volume."""
    return [next(iter(volume.keys() - {"name"})) for volume in api.parked_pod()["spec"].get("volumes") or ()]


def default_scheduler(api: Api) -> Any:
    """The scheduler by default, and tolerations of nodes that are away."""
    return pick(api.pod(nodeSelector={"no": "where"}), "spec.schedulerName", "spec.tolerations")


def status_at_first(api: Api) -> Any:
    """The status of a new pod."""
    return api.parked_pod()["status"]


def quality_of_service(api: Api) -> Any:
    """The class follows from requests and limits; limits alone are requests, too."""
    both = {"cpu": "10m", "memory": "16Mi"}
    found = []
    for name, resources in {
        "none": {},
        "some": {"requests": {"cpu": "10m"}},
        "limits": {"limits": both},
        "equal": {"limits": both, "requests": both},
    }.items():
        pod = api.parked_pod(f"{api.name}-{name}", main={"resources": resources})
        found.append([name, pick(pod, "status.qosClass"), pick(pod, "spec.containers.0.resources")])
    return found


def quantities_are_kept(api: Api) -> Any:
    """A quantity is written in its canonical form."""
    resources = {
        "requests": {"cpu": "0.1", "memory": "1024Mi"},
        "limits": {"cpu": "1000m", "memory": "2048Mi"},
    }
    return pick(api.parked_pod(main={"resources": resources}), "spec.containers.0.resources")


def ports_and_env_defaults(api: Api) -> Any:
    """A port's protocol and a fieldRef's apiVersion are filled in."""
    env = [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    pod = api.parked_pod(main={"ports": [{"containerPort": 80}], "env": env})
    return pick(pod, "spec.containers.0.ports", "spec.containers.0.env")


def empty_dir_default(api: Api) -> Any:
    """A volume that says nothing is an emptyDir."""
    pod = api.parked_pod(volumes=[{"name": "v"}])
    return [volume for volume in pod["spec"]["volumes"] if volume["name"] == "v"]


def without_containers(api: Api) -> Any:
    """A pod needs a container."""
    return said(api.post("pods", api.object("pods", spec={**api.runtime(), "containers": []})))


def container_without_name(api: Api) -> Any:
    """A container needs a name."""
    container = without(api.container("x"), "name")
    return said(api.post("pods", api.object("pods", spec={**api.runtime(), "containers": [container]})))


def container_without_image(api: Api) -> Any:
    """A container needs an image."""
    container = without(api.container("x"), "image")
    return said(api.post("pods", api.object("pods", spec={**api.runtime(), "containers": [container]})))


def container_names_twice(api: Api) -> Any:
    """Containers have names of their own, init containers among them."""
    return _refused(api, initContainers=[api.container("main")])


def container_name_malformed(api: Api) -> Any:
    """A container's name is a DNS label."""
    return _refused(api, containers=[api.container("Main_1")])


def restart_policy_unknown(api: Api) -> Any:
    """restartPolicy is one of three."""
    return _refused(api, restartPolicy="Sometimes")


def dns_policy_unknown(api: Api) -> Any:
    """dnsPolicy is one of four."""
    return _refused(api, dnsPolicy="Maybe")


def pull_policy_unknown(api: Api) -> Any:
    """imagePullPolicy is one of three."""
    return _refused(api, main={"imagePullPolicy": "Maybe"})


def env_name_missing(api: Api) -> Any:
    """A variable needs a name."""
    return _refused(api, main={"env": [{"value": "1"}]})


def env_name_malformed(api: Api) -> Any:
    """A variable's name has no = in it."""
    return _refused(api, main={"env": [{"name": "a=b", "value": "1"}]})


def env_two_sources(api: Api) -> Any:
    """A variable has one source."""
    sources = {"fieldRef": {"fieldPath": "metadata.name"}, "configMapKeyRef": {"name": "a", "key": "b"}}
    return _refused(api, main={"env": [{"name": "A", "valueFrom": sources}]})


def env_value_and_source(api: Api) -> Any:
    """A variable has a value or a source."""
    source = {"fieldRef": {"fieldPath": "metadata.name"}}
    return _refused(api, main={"env": [{"name": "A", "value": "1", "valueFrom": source}]})


def env_no_source(api: Api) -> Any:
    """valueFrom names a source."""
    return _refused(api, main={"env": [{"name": "A", "valueFrom": {}}]})


def env_field_unknown(api: Api) -> Any:
    """A fieldRef is of certain fields."""
    return _refused(
        api, main={"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nonsense"}}}]}
    )


def env_key_missing(api: Api) -> Any:
    """A reference to a key of a ConfigMap names both."""
    return _refused(api, main={"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "a"}}}]})


def env_from_nothing(api: Api) -> Any:
    """envFrom names a source."""
    return _refused(api, main={"envFrom": [{}]})


def mount_of_no_volume(api: Api) -> Any:
    """A mount is of a volume of the pod."""
    return _refused(api, main={"volumeMounts": [{"name": "none", "mountPath": "/x"}]})


def mounts_at_one_place(api: Api) -> Any:
    """Mounts have places of their own."""
    mounts = [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]
    return _refused(api, main={"volumeMounts": mounts}, volumes=[{"name": "v", "emptyDir": {}}])


def volumes_twice(api: Api) -> Any:
    """Volumes have names of their own."""
    return _refused(api, volumes=[{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}])


def volume_of_two_kinds(api: Api) -> Any:
    """A volume is of one kind."""
    return pick(
        _refused(api, volumes=[{"name": "v", "emptyDir": {}, "configMap": {"name": "c"}}]), "code", "reason"
    )


def volume_of_config(api: Api) -> Any:
    """What a volume of a ConfigMap is completed with."""
    source = {"name": "c", "items": [{"key": "a", "path": "b/c"}]}
    pod = api.parked_pod(volumes=[{"name": "v", "configMap": source}, {"name": "w"}])
    return [volume for volume in pod["spec"]["volumes"] if volume["name"] in ("v", "w")]


def volume_of_config_malformed(api: Api) -> Any:
    """A volume of a ConfigMap names it, and files below the volume, with permissions."""
    sources: list[Any] = [
        {},
        {"name": "c", "defaultMode": 512},
        {"name": "c", "items": [{"key": "", "path": ""}]},
        {"name": "c", "items": [{"key": "a", "path": "/a"}, {"key": "a", "path": "b/../../a"}]},
        {"name": "c", "items": [{"key": "a", "path": "..a"}, {"key": "a", "path": "a/..b", "mode": -1}]},
    ]
    return [_refused(api, volumes=[{"name": "v", "configMap": source}]) for source in sources]


def port_out_of_range(api: Api) -> Any:
    """A port is between 1 and 65535."""
    return _refused(api, main={"ports": [{"containerPort": 70000}]})


def ports_named_twice(api: Api) -> Any:
    """Ports of a container have names of their own."""
    ports = [{"containerPort": 80, "name": "web"}, {"containerPort": 81, "name": "web"}]
    return _refused(api, main={"ports": ports})


def quantity_malformed(api: Api) -> Any:
    """A quantity that can't be read is refused."""
    return pick(_refused(api, main={"resources": {"limits": {"cpu": "much"}}}), "code", "reason")


def quantity_negative(api: Api) -> Any:
    """A quantity isn't negative."""
    return _refused(api, main={"resources": {"limits": {"cpu": "-1"}}})


def request_over_limit(api: Api) -> Any:
    """A request is not above its limit."""
    return _refused(api, main={"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})


def fraction_of_gpu(api: Api) -> Any:
    """GPUs come whole."""
    return _refused(api, main={"resources": {"limits": {"nvidia.com/gpu": "500m"}}})


def gpu_request_alone(api: Api) -> Any:
    """GPUs need a limit."""
    return _refused(api, main={"resources": {"requests": {"nvidia.com/gpu": 1}}})


def gpu_request_unlike_limit(api: Api) -> Any:
    """GPUs can't be overcommitted."""
    resources = {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2}}
    return _refused(api, main={"resources": resources})


def resource_without_domain(api: Api) -> Any:
    """A resource of one's own has a domain before it."""
    return _refused(api, main={"resources": {"limits": {"gpu": 1}}})


def deadline_of_zero(api: Api) -> Any:
    """activeDeadlineSeconds is at least 1."""
    return _refused(api, activeDeadlineSeconds=0)


def grace_negative(api: Api) -> Any:
    """terminationGracePeriodSeconds isn't negative."""
    return _refused(api, terminationGracePeriodSeconds=-1)


def toleration_malformed(api: Api) -> Any:
    """Tolerations: Exists takes no value, seconds need NoExecute, a key is needed for Equal."""
    tolerations = [
        {"key": "a", "operator": "Exists", "value": "x"},
        {"key": "a", "operator": "Equal", "value": "x", "effect": "NoSchedule", "tolerationSeconds": 3},
        {"operator": "Equal", "value": "x"},
        {"key": "a", "operator": "Near"},
        {"key": "a", "operator": "Exists", "effect": "Never"},
    ]
    return [_refused(api, tolerations=[toleration]) for toleration in tolerations]


def node_selector_malformed(api: Api) -> Any:
    """nodeSelector is of labels."""
    return _refused(api, nodeSelector={"a b": "x"})


def affinity_malformed(api: Api) -> Any:
    """Node affinity: operators have values that suit them."""
    found = []
    for expression in (
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["x"]},
        {"key": "a", "operator": "Gt", "values": ["x", "y"]},
        {"key": "a", "operator": "Near", "values": ["x"]},
    ):
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        found.append(_refused(api, affinity=affinity))
    return found


def affinity_without_terms(api: Api) -> Any:
    """Required node affinity has a term."""
    affinity: dict[str, Any] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    }
    return _refused(api, affinity=affinity)


def hostname_malformed(api: Api) -> Any:
    """hostname is a DNS label."""
    return _refused(api, hostname="a.b")


def several_errors(api: Api) -> Any:
    """All broken rules are named at once."""
    answer = _refused(api, restartPolicy="x", main={"env": [{"name": ""}], "imagePullPolicy": "y"})
    return answer["causes"]


def gates(api: Api) -> Any:
    """A pod with scheduling gates says so, and isn't scheduled."""
    api.pod(schedulingGates=[{"name": "example.com/wait"}])
    found = api.until_condition(f"pods/{api.name}", "PodScheduled", "False")
    api.delete(f"pods/{api.name}")
    return [conditions(found), pick(found, "status.phase")]


def gate_opened(api: Api) -> Any:
    """A pod whose gate is removed runs."""
    api.pod(schedulingGates=[{"name": "example.com/wait"}])
    api.made(api.patch(f"pods/{api.name}", {"spec": {"schedulingGates": None}}))
    return pick(api.until_phase("Succeeded"), "status.phase")


def gate_added(api: Api) -> Any:
    """A gate can't be added."""
    api.parked_pod()
    return said(api.patch(f"pods/{api.name}", {"spec": {"schedulingGates": [{"name": "example.com/x"}]}}))


def update_of_command(api: Api) -> Any:
    """A pod's command can't be changed."""
    pod = api.parked_pod()
    pod["spec"]["containers"][0]["command"] = ["/bin/true"]
    answer = said(api.put(f"pods/{api.name}", pod))
    return {**answer, "message": answer["message"].partition("\n")[0]}


def update_of_containers(api: Api) -> Any:
    """Containers can't be added."""
    pod = api.parked_pod()
    pod["spec"]["containers"].append(api.container("more"))
    return said(api.put(f"pods/{api.name}", pod))


def update_of_node(api: Api) -> Any:
    """nodeName can't be set by an update."""
    api.parked_pod()
    return pick(said(api.patch(f"pods/{api.name}", {"spec": {"nodeName": "x"}})), "code", "reason", "causes")


def update_of_deadline(api: Api) -> Any:
    """activeDeadlineSeconds can be set and lowered, not raised or removed."""
    api.parked_pod()
    path = f"pods/{api.name}"
    return [said(api.patch(path, {"spec": {"activeDeadlineSeconds": value}})) for value in (50, 20, 30, None)]


def update_of_tolerations(api: Api) -> Any:
    """Tolerations can be added, not taken away."""
    mine = {"key": "a", "operator": "Exists"}
    api.parked_pod(tolerations=[mine])
    path = f"pods/{api.name}"
    more = api.patch(path, {"spec": {"tolerations": [mine, {"key": "b", "operator": "Exists"}]}})
    less = api.patch(path, {"spec": {"tolerations": [mine]}})
    return [said(more), said(less)]


def update_of_labels(api: Api) -> Any:
    """Labels and annotations can be changed, and don't count as a new generation."""
    api.parked_pod()
    patch = {"metadata": {"labels": {"new": "1"}, "annotations": {"note": "x"}}}
    return pick(
        api.made(api.patch(f"pods/{api.name}", patch)),
        "metadata.labels",
        "metadata.annotations",
        "metadata.generation",
    )


def priority_of_class(api: Api) -> Any:
    """A pod gets its priority from its class."""
    name = f"{api.namespace}-{api.name}"
    api.make("priorityclasses", name, value=1234, preemptionPolicy="Never")
    # A cluster's admission sees a new class only after a moment.
    body = api.object("pods", spec=api.pod_spec(schedulerName="nobody", priorityClassName=name))
    while (answer := api.post("pods", body)).code == 403:
        pass
    pod = api.made(answer)
    api.delete(f"priorityclasses/{name}")
    return pick(pod, "spec.priority", "spec.preemptionPolicy", "spec.priorityClassName")


def priority_by_default(api: Api) -> Any:
    """Without a class it has priority 0."""
    return pick(api.parked_pod(), "spec.priority", "spec.preemptionPolicy", "spec.priorityClassName")


def priority_class_missing(api: Api) -> Any:
    """A class that isn't there is refused."""
    return _refused(api, priorityClassName="no-such-class")


def priority_unlike_class(api: Api) -> Any:
    """A priority of its own is refused."""
    return _refused(api, priority=77)


def binding(api: Api) -> Any:
    """A binding assigns a pod to a node, with annotations, and says so in a condition."""
    node = f"{api.namespace}-{api.name}"
    api.make("nodes", node, spec={"unschedulable": True})
    api.parked_pod()
    body = {
        "metadata": {"name": api.name, "annotations": {"note": "x"}},
        "target": {"kind": "Node", "name": node},
    }
    answer = api.post(f"pods/{api.name}/binding", body)
    pod = api.read(f"pods/{api.name}")
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    api.delete(f"nodes/{node}")
    return [said(answer), pick(pod, "spec.nodeName", "metadata.annotations"), conditions(pod)]


def binding_twice(api: Api) -> Any:
    """A pod that is bound can't be bound again."""
    node = f"{api.namespace}-{api.name}"
    api.make("nodes", node, spec={"unschedulable": True})
    api.parked_pod()
    body = {"metadata": {"name": api.name}, "target": {"kind": "Node", "name": node}}
    api.made(api.post(f"pods/{api.name}/binding", body))
    answer = said(api.post(f"pods/{api.name}/binding", body))
    api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    api.delete(f"nodes/{node}")
    return answer


def binding_without_node(api: Api) -> Any:
    """A binding names a node."""
    api.parked_pod()
    return said(api.post(f"pods/{api.name}/binding", {"metadata": {"name": api.name}, "target": {}}))


def binding_of_missing(api: Api) -> Any:
    """A pod that isn't there can't be bound."""
    body = {"metadata": {"name": "missing"}, "target": {"kind": "Node", "name": "x"}}
    return said(api.post("pods/missing/binding", body))


def binding_of_another(api: Api) -> Any:
    """A binding that means another pod of the name is 409."""
    api.parked_pod()
    uid = "00000000-0000-0000-0000-000000000000"
    body = {"metadata": {"name": api.name, "uid": uid}, "target": {"kind": "Node", "name": "x"}}
    return said(api.post(f"pods/{api.name}/binding", body))


def log_of_waiting(api: Api) -> Any:
    """The log of a pod without a node is empty."""
    api.parked_pod()
    answer = api.get(f"pods/{api.name}/log")
    return [answer.code, answer.body]


def log_of_missing(api: Api) -> Any:
    """The log of a pod that isn't there is 404."""
    return said(api.get("pods/missing/log"))


def log_of_unknown_container(api: Api) -> Any:
    """The log of a container that isn't there is 400."""
    api.parked_pod()
    return said(api.get(f"pods/{api.name}/log", container="other"))


def log_of_several_containers(api: Api) -> Any:
    """Of several containers one must be named."""
    api.parked_pod(containers=[api.container("one"), api.container("two")])
    return said(api.get(f"pods/{api.name}/log"))


def log_options_malformed(api: Api) -> Any:
    """Options of logs that aren't in range are refused."""
    api.parked_pod()
    path = f"pods/{api.name}/log"
    queries: list[dict[str, Any]] = [
        {"tailLines": -1},
        {"limitBytes": 0},
        {"sinceSeconds": 0},
        {"sinceSeconds": 1, "sinceTime": "2020-01-01T00:00:00Z"},
    ]
    return [said(api.get(path, **query)) for query in queries]
