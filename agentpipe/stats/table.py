"""The report of `agentpipe.stats` as tables that people read.

The rules this module keeps: what a log says is shown without the characters by which it could command a terminal; what
nothing tells is ``–``, never 0; colour only when it was asked for.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from agentpipe.event import JSON

__all__ = ["table"]

_NOTHING = "–"
_WIDEST = 44
_WIDEST_ID = 64  # a session's id and a sub-agent's
_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"
_NAMES = {"model": "model", "tool": "tools", "waiting": "waiting for a human", "idle": "idle", "unknown": "unknown"}
_MOST_FILES = 10

_Row = Sequence[str]


def table(report: Mapping[str, JSON], *, color: bool = False) -> str:
    """The report of `Summary.report` (with ``input``) as text that ends in a line end."""
    return "\n".join(_lines(report, color)) + "\n"


def _lines(report: Mapping[str, JSON], color: bool) -> Iterator[str]:
    totals, runs = report["totals"], report["runs"]
    if not runs and not totals["runs"]["counted"]:
        yield "no runs"
    else:
        heads = ("run", "agent", "model", "state", "time", "turns", "calls", "failed", "files", "lines", "cost")
        yield from _grid(heads, [_run(run) for run in runs], 4, color)
        yield ""
        yield from _sums(totals, color)
        yield from _tools(totals, color)
        yield from _files(totals, color)
    yield from _notes(report)


def _run(run: Mapping[str, JSON]) -> _Row:
    files = run["files"]
    again = f" ({run['execution']})" if "execution" in run else ""
    return (
        ("" if run["counted"] else "· ") + _safe(run["run_id"], _WIDEST_ID) + again,
        _safe(run.get("agent") or run.get("agent_id") or _NOTHING),
        _safe(run.get("model") or _NOTHING),
        run["state"] + (" *" if "incomplete" in run else ""),
        _time(run.get("duration_ms")),
        str(run["turns"]),
        str(sum(kind["calls"] for kind in run["kinds"])),
        str(sum(kind["failures"] for kind in run["kinds"])),
        str(files["files"]),
        _lines_of(files, files["changes"]),
        _cost(run.get("cost_usd")),
    )


def _sums(totals: Mapping[str, JSON], color: bool) -> Iterator[str]:
    runs, tokens = totals["runs"], totals["tokens"]
    states = ", ".join(f"{runs[state]} {state}" for state in _STATES if runs.get(state))
    rows = [("runs", f"{runs['counted']}: {states}; events: {totals['events']}")]
    failed = f", {totals['failed_turns']} failed" if totals["failed_turns"] else ""
    rows.append(("turns", f"{totals['turns']}{failed}"))
    spent = sum(totals["time_ms"].values())
    parts = [
        f"{_NAMES[part]} {_time(ms)} ({100 * ms / spent:.0f} %)"
        for part, ms in totals["time_ms"].items()
        if ms and spent
    ]
    rows.append(("time", ", ".join([_time(totals["duration_ms"] or None), *parts])))
    named = [f"{word} {tokens[name]:,}" for name, word in _TOKENS.items() if name in tokens]
    rows.append(("tokens", ", ".join(named) or _NOTHING))
    rows.append(("cost", _cost(totals["cost_usd"])))
    rows.append(("errors", ", ".join(f"{_safe(rank)} {count}" for rank, count in totals["errors"].items()) or "none"))
    for name, text in rows:
        yield f"{_bold(name.ljust(8), color)}{text}"


_STATES = ("completed", "failed", "cancelled", "unfinished")
_TOKENS = {
    "input_tokens": "input", "output_tokens": "output", "cache_read_tokens": "read from cache",
    "cache_write_tokens": "written to cache",
}  # fmt: skip


def _tools(totals: Mapping[str, JSON], color: bool) -> Iterator[str]:
    if not totals["tools"]:
        return
    columns = ("calls", "failed", "time", "median", "longest")
    yield ""
    yield from _grid(("kind", *columns), [(_safe(row["kind"]), *_counts(row)) for row in totals["kinds"]], 1, color)
    yield ""
    rows = [(_safe(row["name"]), _safe(row["kind"]), *_counts(row)) for row in totals["tools"]]
    yield from _grid(("tool", "kind", *columns), rows, 2, color)


def _counts(row: Mapping[str, JSON]) -> _Row:
    times = (_time(row.get(name)) for name in ("sum_ms", "median_ms", "max_ms"))
    return (str(row["calls"]), str(row["failures"]), *times)


def _files(totals: Mapping[str, JSON], color: bool) -> Iterator[str]:
    files = totals["most_changed_files"]
    if not files:
        return
    yield ""
    rows = [(_safe(row["path"], keep_end=True), _lines_of(row, row["changes"])) for row in files[:_MOST_FILES]]
    yield from _grid(("file", "lines"), rows, 1, color)
    more = totals["files"]["files"] - len(rows)
    if more > 0:
        yield f"and {more} more"


def _notes(report: Mapping[str, JSON]) -> Iterator[str]:
    """What the figures do not hold, or hold in part."""
    totals, given = report["totals"], report.get("input", {})
    untold, runs = totals["runs_that_do_not_tell"], totals["runs"]
    unanswered = sum(row["unanswered"] for row in totals["kinds"])
    untimed = sum(row["calls"] - row["unanswered"] - row["timed"] for row in totals["kinds"])
    gaps = ", ".join(f"{_safe(reason)} {count}" for reason, count in totals["gaps"].items())
    notes = [
        (runs["other_tellers"], "{} marked · tell a session that is counted already"),
        (runs["without_row"], "{} runs are in the totals and have no row"),
        (any("incomplete" in run for run in report["runs"]), "*: the agent's own account of the run is not whole"),
        (untold["duration_ms"], "{} runs do not tell how long they took"),
        (untold["tokens"], "{} runs do not tell their tokens"),
        (untold["cost_usd"], "{} runs do not tell their cost"),
        (unanswered, "{} calls have no result"),
        (max(0, untimed), "{} results do not tell how long the call took"),
        (totals["files"]["uncounted"], "{} changes of files do not tell their lines"),
        (sum(totals["gaps"].values()), f"{{}} events are missing ({gaps})"),
        (totals["raw"], "{} lines were not understood (raw)"),
        (totals["repeated_events"], "{} events came again and are counted once"),
        (given.get("malformed", 0), "{} malformed lines were skipped"),
        (given.get("oversize", 0), "{} lines over the limit were skipped"),
    ]
    said = [text.format(count) for count, text in notes if count]
    if said:
        yield ""
        yield from said


def _grid(heads: _Row, rows: Sequence[_Row], left: int, color: bool) -> Iterator[str]:
    """Columns as wide as what is in them; the first *left* of them begin left, the others end right."""
    widths = [max(_columns(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for number, row in enumerate([heads, *rows]):
        cells = [
            cell + " " * (width - _columns(cell)) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        if number == 0:
            line = _bold(line, color)
        elif color and "failed" in row:
            line = f"{_RED}{line}{_PLAIN}"
        yield line


def _columns(text: str) -> int:
    """The columns that a terminal gives *text*: two for a wide character, none for one that stands on another."""
    return len(text) if text.isascii() else sum(map(_column, text))


def _column(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _bold(text: str, color: bool) -> str:
    return f"{_BOLD}{text}{_PLAIN}" if color else text


def _lines_of(row: Mapping[str, JSON], changes: int) -> str:
    """Lines added and removed; nothing when none of the *changes* tells them."""
    told = row["added"] or row["removed"] or row["uncounted"] < changes
    return f"+{row['added']} -{row['removed']}" if told else _NOTHING


def _cost(usd: JSON) -> str:
    if usd is None:
        return _NOTHING
    return f"${usd:,.2f}" if usd >= 100 else f"${usd:.4f}"


def _time(ms: JSON) -> str:
    """Milliseconds for people, about three digits of them."""
    if ms is None:
        return _NOTHING
    if ms < 1000:
        return f"{ms:.0f} ms"
    whole = int(ms / 1000)
    if ms < 60_000:
        return f"{ms / 1000:.1f} s" if ms < 59_950 else "60.0 s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} m"


def _safe(text: JSON, widest: int = _WIDEST, *, keep_end: bool = False) -> str:
    """A stranger's text on one line, cut to a column's width."""
    shown = "".join(character if character.isprintable() else "·" for character in str(text))
    if _columns(shown) <= widest:
        return shown
    return "…" + _cut(shown[::-1], widest - 1)[::-1] if keep_end else _cut(shown, widest - 1) + "…"


def _cut(text: str, widest: int) -> str:
    """As many of the first characters of *text* as *widest* columns hold."""
    taken = 0
    for index, character in enumerate(text):
        taken += _column(character)
        if taken > widest:
            return text[:index]
    return text
