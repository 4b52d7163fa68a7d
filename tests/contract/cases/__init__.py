"""One module per area; each function is a case, its docstring the behaviour that it looks at."""
