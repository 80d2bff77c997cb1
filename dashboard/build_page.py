"""The wheel's build hook: makes the page (replaced by the dashboard's own)."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageBuild(BuildHookInterface[Any]):
    """Builds ``agentpipe/web`` from ``dashboard/``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Nothing to build yet."""
