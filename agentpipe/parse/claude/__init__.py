"""Claude Code: its stream (`stream`), the session files it keeps (`transcript`), what its hooks are told (`hooks`)."""
