"""Where the yard doesn't do what Kubernetes does, and why: every such case stands here, and no other.

`UNSERVED` is what the yard refuses or leaves out as a whole; `DIFFERENT` is served, and behaves otherwise.
"""

from __future__ import annotations

_NO_ACCOUNTS = "a yard has one user, and pods have no access to its API"
_CLIENTS_FAULT = "400 or 422 instead of 500, since it is the client's fault"

UNSERVED: dict[str, str] = {
    "autoscalers.scales_to_zero": "a yard measures its services; there are no External metrics",
    "autoscalers.without_metrics": "a yard's services aren't scaled by the use of CPUs",
    "discovery.cron_jobs": "a yard runs pods, Jobs and Deployments",
    "discovery.runtime_classes": "the one class, gpuyard-process, isn't an object",
    "discovery.custom_resources": "a yard serves the kinds that the road to a GPU needs",
    "discovery.roles": "a yard has one user",
    "discovery.newer_events": "events of the core group are served",
    "discovery.quotas": "a yard has one user",
    "discovery.token": _NO_ACCOUNTS,
    "others.config_of_the_root": _NO_ACCOUNTS,
    "patches.apply_creates": "415; server-side apply needs managed fields",
    "pods.account_token": _NO_ACCOUNTS,
    "services.affinity": "all clients of a yard have one address",
    "services.datagrams": "a yard passes on TCP",
    "services.external_name": "a yard's names are those of its pods",
    "services.node_port": "nobody reaches a yard's Services from elsewhere",
    "selectors.version_exact": "410, which sends clients to a new list: only the present can be listed",
    "verbs.body_in_yaml": "415; clients send JSON",
    "verbs.create_records_managed_fields": "nothing of the yard reads them",
    "verbs.update_creates_lease": "404; a PUT changes what is there",
}

DIFFERENT: dict[str, str] = {
    "endpoint_slices.address_type_changes": "the message names the value",
    "endpoint_slices.loopback": "the yard's pods have such addresses",
    "jobs.indexed_too_parallel": "422 for `completions`, too: the yard runs Indexed Jobs of 100,000 at most",
    "jobs.status_rules": "the yard trusts who writes a status",
    "lifecycle.events_of_a_run": "events of containers name the pod, not the container in fieldPath",
    "others.node_cordoned": "the scheduler looks at spec.unschedulable; there is no taint besides",
    "patches.json_test_fails": "the message names the test that failed",
    "patches.patch_of_uid": "409, as for an update, which controllers of the yard rely on",
    "patches.strategic_unknown_directive": _CLIENTS_FAULT,
    "patches.strategic_without_key": _CLIENTS_FAULT,
    "pods.binding_of_another": "the message leaves out etcd's key",
    "pods.binding_without_node": _CLIENTS_FAULT,
    "pods.defaults": f"no ServiceAccount by default: {_NO_ACCOUNTS}",
    "pods.log_of_waiting": "400 that says why, where Kubernetes answers 204 without a word",
    "pods.log_options_malformed": "400 instead of 422",
    "selectors.labels_malformed_message": "the message names the part that can't be read",
    "selectors.list_is_as_typed": "items carry apiVersion and kind, too",
    "services.address_elsewhere": "the message names the range",
    "storage.class_is_frozen": "the message names the value",
    "verbs.create_in_another_namespace": "the message names both namespaces",
    "verbs.create_with_version": _CLIENTS_FAULT,
    "verbs.field_validation_duplicate": "of a field that is there twice the last one counts",
    "verbs.unknown_resource": "a Status that names what a yard serves, also for an unknown group",
    "verbs.unknown_subresource": "the message names what a yard serves",
    "verbs.update_of_another_uid": "the message leaves out etcd's key",
    "watches.malformed_version": _CLIENTS_FAULT,
    "watches.of_one_object": "watches that object, where Kubernetes answers it",
}
