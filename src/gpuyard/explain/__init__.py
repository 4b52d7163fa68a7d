"""Why a run waits or failed, from objects and lines that somebody else has read (pure).

ladder           climbs the steps, from the Job to its process: the first that holds the run is the answer
steps/           one module for each step
finding          what a step finds: cause, proof, whose it is, remedies
run_objects      what the steps look at
messages         what a message of a kubelet, a runtime or the scheduler means
missing_objects  objects that a pod names and that aren't there
placement        why no node takes a pod, node by node
changes          the smallest changes that would let it run, each tried before it is told
holders          who has what is short
node_labels      labels that no node has
device_plugins   nodes whose GPUs nobody serves
output/          what the lines of a failed run's output mean
"""
