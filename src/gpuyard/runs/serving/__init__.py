"""What can be done with a service that is there: follow its rollout, update it, go back, scale it."""
