"""Standard input and terminals of containers, and the process that keeps them beside each."""
