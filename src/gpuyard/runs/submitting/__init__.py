"""From a spec file and this machine to a run's objects at an API: all of them, or none."""
