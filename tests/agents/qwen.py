"""The real Qwen Code CLI: which one, how it is run, and what it is asked to do."""

import json
from collections.abc import Sequence

from tests.agents.install import Package
from tests.agents.sandbox import Sandbox
from tests.agents.scenarios import Scenario
from tests.agents.small import Words, small_scenarios

__all__ = ["QWEN", "SCENARIOS", "QwenSandbox"]

#: Pinned: its quirks are what the tests know.
QWEN = Package("qwen", "@qwen-code/qwen-code", "0.15.10", (".bin/qwen",))

_WORDS = Words(
    shell="run_shell_command",
    read="read_file",
    write="write_file",
    edit="edit",
    path="file_path",
    old="old_string",
    new="new_string",
    failing_shell_fails=False,
    more_of_shell={"description": "Run a command", "is_background": False},
)

SCENARIOS = small_scenarios(_WORDS)


class QwenSandbox(Sandbox):
    """Qwen Code with an API of the OpenAI kind on loopback."""

    __slots__ = ()

    def prepare(self) -> None:
        """Choose no statistics, which it sends by default, and no updates."""
        folder = self.home / ".qwen"
        folder.mkdir(exist_ok=True)
        quiet = {"privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}}
        (folder / "settings.json").write_text(json.dumps(quiet))

    def settings(self) -> dict[str, str]:
        """Its key, its API and its model."""
        return {"OPENAI_API_KEY": "sk-dummy", "OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_MODEL": "mock-model"}

    def command(self, scenario: Scenario, form: str = "stream-json", options: Sequence[str] = ()) -> list[str]:
        """``-p --yolo``: all permissions."""
        account = ["--yolo", "--auth-type", "openai"]
        return [str(self.binary), "-p", scenario.prompt, "--output-format", form, *account, *options]
