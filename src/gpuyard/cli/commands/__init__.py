"""One file per command; `cli.main` names them and imports only the one that is asked for."""
