"""Codex: its stream of three shapes (`stream`), the session files that it keeps (`rollout`), and what both share."""
