"""What can be done with a service over any API: find, follow, stop, explain, forward."""
