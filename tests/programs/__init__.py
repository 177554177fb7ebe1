"""Programs as people have them, started, killed and started again as a user does, and judged by their world."""
