"""Checks of the chain from the API to the GPU: facts are read at once, then each link is judged (pure)."""
