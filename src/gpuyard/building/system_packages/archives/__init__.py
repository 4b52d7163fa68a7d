"""What archives of packages offer: their addresses in the base, signatures, indexes."""
