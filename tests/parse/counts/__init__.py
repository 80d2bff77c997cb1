"""What a raw log holds, counted without the code under test: one file a format, each with ``counted``."""
