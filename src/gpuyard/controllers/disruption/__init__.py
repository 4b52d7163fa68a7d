"""The disruption controller: says how many pods of a PodDisruptionBudget may be evicted now."""
