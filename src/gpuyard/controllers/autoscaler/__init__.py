"""The HorizontalPodAutoscaler controller: measures, has `autoscaling` decide, and writes what it decides."""
