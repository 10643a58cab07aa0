"""What Legato is measured beside: one small file a peer."""
