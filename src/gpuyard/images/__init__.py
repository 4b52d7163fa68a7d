"""Container images: their values, where they are stored, and how they travel between stores."""
