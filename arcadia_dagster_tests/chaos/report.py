"""The table of what attacks did: fault, expectation, result, from the rows that the tests note in the file CHAOS_RESULTS.

Run as `python -m arcadia_dagster_tests.chaos.report FILE`.
"""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from arcadia_dagster_tests.chaos.faults import FAULTS


def table(rows):
    """Markdown: of every fault what was expected and what became of it, then of every kind of crash."""
    outcomes, wrong, crashes = defaultdict(Counter), Counter(), defaultdict(Counter)
    for row in rows:
        if "crash" in row:
            crashes[row["crash"]].update(times=1, killed=int(row["killed"]), wrong=int(bool(row["wrong"])))
        elif row["target"] is None:
            wrong[row["fault"]] += bool(row["wrong"])
        else:
            outcomes[row["fault"]][row["outcome"]] += 1
    lines = ["| fault | what is expected | on kinds of requests | result | wrong |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        if fault.name in outcomes:
            counts = outcomes[fault.name]
            result = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
            lines.append(f"| {fault.name}: {fault.says} | {fault.expects} | {counts.total()} | {result} | {wrong[fault.name]} |")
    if crashes:
        lines += ["", "| crash | times | of these in time | ledgers that differ after the next sync |", "|---|---|---|---|"]
    for name, counts in crashes.items():
        lines.append(f"| {name} | {counts['times']} | {counts['killed']} | {counts['wrong']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()))
