"""The HTTP side of the yard's API: requests, answers, watches, discovery, and the server that listens."""
