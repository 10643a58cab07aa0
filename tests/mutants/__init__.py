"""Known bugs, planted one at a time to see the tests catch them: `python -m tests.mutants --help`."""
