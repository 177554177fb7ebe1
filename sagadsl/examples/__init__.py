"""Examples with real parts: each one starts what it needs, and its compensations really undo."""
