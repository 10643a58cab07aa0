"""Hints between nodes: "look again". They may all be lost, and nothing breaks."""
