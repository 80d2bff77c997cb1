"""Claude Code's hooks: kept where the hook runs, delivered by a process of its own.

The way through the room: `entry` is what the agent waits for (it imports nothing that is not needed to append a line),
`spool` is the file and its rules, `tape` reads it as events, `sender` brings them to the hub, `sweep` sees to what is
left of others, `settings` edits the agent's settings file.
"""
