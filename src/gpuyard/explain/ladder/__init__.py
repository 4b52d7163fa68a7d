"""The steps between a submitted run and its first line of output, and which of them holds it (pure).

    job → quota → admission → nodes → volumes → image → devices → start → process

Each step looks at objects that somebody else has read, and says what holds the run there, if anything does.
"""
