"""The documentation: pages written by hand, and reference pages made from the code (docs.generate)."""
