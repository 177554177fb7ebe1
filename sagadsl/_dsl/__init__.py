"""What users write: ``@step`` and ``@saga``, and what they can ask inside. Meaning is ``_core``'s; this is its face."""
