"""gpuyard from Python: `gpuyard.connect()` in scripts and notebooks, `connect_async()` where a loop runs.

There is one implementation, `asynchronous`; `blocking` has the same names and runs it on a thread of its own.
"""
