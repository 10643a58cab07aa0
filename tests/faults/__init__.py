"""Kill, cut and starve real servers, and count what a reader lost: `python -m tests.faults --help`."""
