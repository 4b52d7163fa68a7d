"""AMD's GPUs, as its kernel driver shows them in sysfs."""
