"""What can be done with a service over any API: find, follow, update, scale, stop, explain, forward."""
