"""Why a run waits or failed: reads what tells it, and asks `explain`."""
