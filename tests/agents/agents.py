"""The agents of these tests, by name: what is installed, how it is run, which API is mocked, what it can be asked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.agents import codex, gemini, opencode, qwen, scenarios
from tests.agents.claude import CLAUDE, ClaudeSandbox
from tests.agents.codex import CODEX, CodexSandbox
from tests.agents.gemini import GEMINI, GeminiSandbox
from tests.agents.install import Package
from tests.agents.mock_anthropic import MockAnthropic
from tests.agents.mock_chat import MockChat
from tests.agents.mock_gemini import MockGemini
from tests.agents.mock_model import MockModel
from tests.agents.mock_responses import MockResponses
from tests.agents.opencode import OPENCODE, OpenCodeSandbox
from tests.agents.qwen import QWEN, QwenSandbox
from tests.agents.sandbox import Sandbox

__all__ = ["AGENTS", "Agent"]


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent: its *package*, its *sandbox*, the *mock* of its API, and its *scenarios* by name."""

    package: Package
    sandbox: type[Sandbox]
    mock: type[MockModel]
    scenarios: dict[str, Callable[[Path], scenarios.Scenario]]


AGENTS = {
    "claude": Agent(CLAUDE, ClaudeSandbox, MockAnthropic, scenarios.SCENARIOS),
    "codex": Agent(CODEX, CodexSandbox, MockResponses, codex.SCENARIOS),
    "gemini": Agent(GEMINI, GeminiSandbox, MockGemini, gemini.SCENARIOS),
    "opencode": Agent(OPENCODE, OpenCodeSandbox, MockChat, opencode.SCENARIOS),
    "qwen": Agent(QWEN, QwenSandbox, MockChat, qwen.SCENARIOS),
}
