"""Policies: what a request has to pass. One may refuse or transform, and never generates."""
