"""How a run ended: completed, failed or cancelled, from the process's end and the agent's own account.

The rule this module keeps: what ``run`` ended itself (a signal it was sent, a timeout, a reader that went away) or what
a person's signal ended is cancelled; a status other than 0, or a last turn that is an error, is failed; everything
else is completed, and says when the agent's account of it is not whole.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Outcome
from agentpipe.parse.vocabulary.fields import string, whole

__all__ = ["terminal"]

_ENDED_BY_RUN = frozenset({"idle_timeout", "reader_gone", "signal", "timeout"})
_ASKED_TO_END = frozenset({"SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"})
_STATUSES_ASKED_TO_END = frozenset({129, 130, 131, 143})  # 128 + those signals, as an agent that caught one exits


def terminal(outcome: Outcome, exited: dict[str, JSON] | None, elapsed_s: float) -> tuple[str, dict[str, JSON]]:
    """The type and the payload of the run's last event. *exited* is the payload of ``process_exited``, None when the
    input ended before one; *elapsed_s* stands in for a duration that nobody told.
    """
    payload: dict[str, JSON] = {"duration_ms": outcome.duration_ms or round(elapsed_s * 1000), "reason": "input_ended"}
    if exited is not None:
        payload.update(_process_end(exited, payload["duration_ms"]))
    payload.update(outcome.fields)
    if outcome.incomplete:
        payload["incomplete"] = outcome.incomplete
    kind = _kind(outcome, exited)
    if kind == "run_failed" and "error" not in payload:
        payload["error"] = _error(payload)
    if kind == "run_completed":
        payload.pop("error", None)
    return kind, payload


def _process_end(exited: dict[str, JSON], otherwise_ms: int) -> dict[str, JSON]:
    took = whole(exited.get("duration_ms"))
    end: dict[str, JSON] = {"duration_ms": took if took is not None else otherwise_ms}
    reason = string(exited.get("reason"))
    end["reason"] = reason if reason in _ENDED_BY_RUN or reason == "input_ended" else "exit"
    status = whole(exited.get("exit_code"))
    if status is not None:
        end["exit_code"] = status
    if string(exited.get("signal")):
        end["signal"] = exited["signal"]
    return end


def _kind(outcome: Outcome, exited: dict[str, JSON] | None) -> str:
    if exited is not None:
        signal, status = string(exited.get("signal")), whole(exited.get("exit_code"))
        if string(exited.get("reason")) in _ENDED_BY_RUN or signal in _ASKED_TO_END:
            return "run_cancelled"
        if status in _STATUSES_ASKED_TO_END:
            return "run_cancelled"
        if signal or status:
            return "run_failed"
    if outcome.cancelled:
        return "run_cancelled"
    return "run_failed" if outcome.ok is False else "run_completed"


def _error(payload: dict[str, JSON]) -> str:
    """Why a run failed, when the agent did not say."""
    if "signal" in payload:
        return f"ended by {payload['signal']}"
    return f"exit status {payload['exit_code']}" if payload.get("exit_code") else "the last turn failed"
