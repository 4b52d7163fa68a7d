"""What a resolve starts from and ends in: requirements, the base as packages, local wheels, errors."""
