"""gpuyard's own parts on a cluster: the agent's image, install, uninstall, status. Prints nothing."""
