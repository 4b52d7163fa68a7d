"""Simulated GPUs, which say that they are, wherever they show."""
