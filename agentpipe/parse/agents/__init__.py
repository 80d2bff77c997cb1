"""One agent's vocabulary a file; Claude Code, which speaks three, has a room of its own."""
