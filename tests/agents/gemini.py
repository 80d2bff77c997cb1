"""The real Gemini CLI: which one, how it is run, and what it is asked to do."""

import json
from collections.abc import Sequence

from tests.agents.install import Package
from tests.agents.sandbox import Sandbox
from tests.agents.scenarios import Scenario
from tests.agents.small import Words, small_scenarios

__all__ = ["GEMINI", "SCENARIOS", "GeminiSandbox"]

#: Pinned: its quirks are what the tests know.
GEMINI = Package("gemini", "@google/gemini-cli", "0.61.0", (".bin/gemini",))

_WORDS = Words(
    shell="run_shell_command",
    read="read_file",
    write="write_file",
    edit="replace",
    path="file_path",
    old="old_string",
    new="new_string",
    failing_shell_fails=False,
    more_of_shell={"description": "Run a command"},
    more_of_edit={"instruction": "Write beta in capitals"},
)

SCENARIOS = small_scenarios(_WORDS, retried=503)


class GeminiSandbox(Sandbox):
    """Gemini CLI with an API key and without statistics."""

    __slots__ = ()

    def prepare(self) -> None:
        """Choose the key as its account, and no statistics."""
        folder = self.home / ".gemini"
        folder.mkdir(exist_ok=True)
        account = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
        quiet = {"privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}}
        (folder / "settings.json").write_text(json.dumps(account | quiet))

    def settings(self) -> dict[str, str]:
        """Its key, its API, and that the workspace may be trusted."""
        return {
            "GEMINI_API_KEY": "sk-dummy",
            "GOOGLE_GEMINI_BASE_URL": self.url,
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
        }

    def command(self, scenario: Scenario, form: str = "stream-json", options: Sequence[str] = ()) -> list[str]:
        """``-p -y``: without ``-y`` it has no tools that change anything."""
        return [str(self.binary), "-p", scenario.prompt, "--output-format", form, "-y", *options]
