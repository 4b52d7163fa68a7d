"""The command line: arguments, printing, exit codes. All work is done below."""
