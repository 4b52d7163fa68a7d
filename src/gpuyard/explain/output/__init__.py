"""What the lines of a failed run's output mean (pure)."""
