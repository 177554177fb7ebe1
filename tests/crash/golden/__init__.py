"""A file of each schema version that was ever released, and what made it."""
