"""The benchmark: Legato beside nginx, a raw relay and the tutorials' stack, on one machine.

Nothing here is imported by the server. Run it as `python -m bench`; see README.md.
"""
