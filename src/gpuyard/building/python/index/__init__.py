"""Package indexes as uv knows them: which there are, how to log in, and fetching wheels from them."""
