"""The Deployment controller: moves pods from one template to the next by ReplicaSets of both."""
