"""What controllers share that make pods: what they read of one, notes on what is under way, and requests."""
