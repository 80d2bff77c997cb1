"""Running an agent: `process` puts the parts together, `loop` joins them while the agent runs.

`spawn` starts it, `plumbing` is its descriptors, `drain` reads them at once into `backlog`, `custody` ends it and all
that it started (found by `reaper`), `job_control` suspends it with us.
"""
