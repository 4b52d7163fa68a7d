"""Looking inside a run while it goes on: exec, attach, copy, forward."""
