"""The real command line with the stages of ``tests.doubles`` in its tables: ``python command.py echo --stats``."""

import dataclasses
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

from agentpipe import catalog  # noqa: E402 - the path comes first
from agentpipe.stage import BaseStage, StageSpec, option  # noqa: E402
from agentpipe_cli.main import main  # noqa: E402
from tests.doubles import Batch, Delay, Echo, Elastic, First  # noqa: E402


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """For every double."""

    number: int = option(3, "How many.")
    seconds: float = option(0.0, "How long.", unit="duration")


SPECS = {
    "pass": StageSpec("pass", "Pass.", Options, lambda options: BaseStage()),
    "lines": StageSpec("lines", "Pass any line.", Options, lambda options: BaseStage(), reads="lines"),
    "batch": StageSpec("batch", "Several at once.", Options, lambda options: Batch(options.number)),
    "delay": StageSpec("delay", "Later.", Options, lambda options: Delay(options.seconds)),
    "echo": StageSpec("echo", "Twice.", Options, lambda options: Echo()),
    "elastic": StageSpec("elastic", "Queue.", Options, lambda options: Elastic(options.number)),
    "first": StageSpec("first", "The first.", Options, lambda options: First(options.number)),
}

if __name__ == "__main__":
    sys.modules["doubles_specs"] = sys.modules["__main__"]
    for name, spec in SPECS.items():
        globals()[name] = spec
        catalog.STAGES[name] = catalog.Row(f"doubles_specs:{name}", spec.summary)
        catalog.COMMANDS[name] = catalog.Row(f"agentpipe_cli.filters:{name}", spec.summary)
    main()
