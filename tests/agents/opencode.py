"""The real OpenCode CLI: which one, how it is run, and what it is asked to do."""

import json
from collections.abc import Sequence

from tests.agents.install import Package
from tests.agents.sandbox import Sandbox
from tests.agents.scenarios import Scenario
from tests.agents.small import Words, small_scenarios

__all__ = ["OPENCODE", "SCENARIOS", "OpenCodeSandbox"]

#: Pinned: its quirks are what the tests know.
OPENCODE = Package("opencode", "opencode-ai", "1.18.33", ("opencode-linux-{cpu}/bin/opencode",))

_WORDS = Words(
    shell="bash",
    read="read",
    write="write",
    edit="edit",
    path="filePath",
    old="oldString",
    new="newString",
    failing_shell_fails=True,
    more_of_shell={"description": "Run a command"},
)

#: An API that refuses for good it asks again for minutes, in silence.
SCENARIOS = {name: made for name, made in small_scenarios(_WORDS).items() if name != "refused"}


class OpenCodeSandbox(Sandbox):
    """OpenCode with a provider on loopback; it fetches no models, plugins, language servers or updates."""

    __slots__ = ()

    def settings(self) -> dict[str, str]:
        """Its provider, its permissions, and that it stays at home."""
        model = {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": f"{self.url}/v1", "apiKey": "sk-dummy"},
            "models": {"mock-model": {"tool_call": True}},
        }
        config = {
            "enabled_providers": ["mock"],
            "provider": {"mock": model},
            "permission": {"edit": "allow", "bash": "allow"},
        }
        quiet = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS", "EXTERNAL_PLUGINS")
        # It looks a package of its own up in npm's registry at every start: there is none here.
        return {f"OPENCODE_DISABLE_{what}": "1" for what in quiet} | {
            "NPM_CONFIG_REGISTRY": self.url,
            "OPENCODE_CONFIG_CONTENT": json.dumps(config),
        }

    def command(self, scenario: Scenario, form: str = "json", options: Sequence[str] = ()) -> list[str]:
        """``run --format json``."""
        return [str(self.binary), "run", "--format", form, "-m", "mock/mock-model", *options, scenario.prompt]
