"""The layers that a build adds to its base: what each is made of, and how it gets into a store."""
