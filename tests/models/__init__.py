"""A real small model behind Ollama's HTTP API, for the tests alone."""
