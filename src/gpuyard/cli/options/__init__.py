"""Options of commands, spelt and explained once, and what the shell's completion offers for them."""
