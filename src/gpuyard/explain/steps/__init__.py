"""One module for each step between a submitted run and its first line of output, named after it (pure).

    job → quota → admission → nodes → volumes → image → devices → start → process

Each looks at objects that somebody else has read, and says what holds the run there, if anything does. A full
disk (`disk`) may hold it at several.
"""
