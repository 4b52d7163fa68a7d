"""What is known about GPU models, whoever reports them: pure data."""
