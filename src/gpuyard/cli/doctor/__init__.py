"""`gpuyard doctor`: facts gathered at once, then each link of the chain judged over them (pure)."""
