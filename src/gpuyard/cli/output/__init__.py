"""What commands print: results, notices, progress, the output of runs."""
