"""Which packages an image needs beside those of its base: versions, relations, the choice."""
