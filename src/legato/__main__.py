"""`python -m legato`, and `legato`."""

import sys

from legato.allocator import take_system_allocator


def main() -> None:
    """Run the command line; a server on an allocator that gives memory back."""
    if sys.argv[1:2] == ["serve"]:
        take_system_allocator()
    from legato.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
