"""Requests to an API and their answers, over a yard's unix socket and over the network to a cluster."""
