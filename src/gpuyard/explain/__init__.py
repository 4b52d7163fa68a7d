"""Why a run waits or failed: the ladder of steps, what would help, what a line of output means (pure)."""
