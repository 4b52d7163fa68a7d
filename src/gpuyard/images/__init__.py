"""Container images: their values, where they are stored, and how they are built without a daemon."""
