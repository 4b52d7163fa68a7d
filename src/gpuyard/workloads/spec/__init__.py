"""A run as its user writes it: read, checked as a whole, and told apart from mistakes."""
