"""The kubelet's device manager: plugins, which container holds which device, and what monitoring is told."""
