"""How many replicas a service needs (pure): what a HorizontalPodAutoscaler asks for, and the decision."""
