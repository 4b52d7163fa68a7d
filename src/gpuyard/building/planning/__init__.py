"""What a build will do: whether its lock stays, the bases, and what goes into each platform's image."""
