"""The ReplicaSet controller: keeps as many pods of a template as a ReplicaSet says."""
