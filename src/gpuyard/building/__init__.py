"""Images built without a daemon: from a folder and its requirements to layers, config and manifest."""
