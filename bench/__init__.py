"""Measurements of what a user feels and what a yard costs. They print; tests are elsewhere."""
