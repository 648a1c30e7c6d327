"""A public trace of a language model as a trace of scorefront.

    python -m loadtests.llm_trace AzureLLMInferenceTrace_code.csv > trace.csv

Reads the columns TIMESTAMP, ContextTokens and GeneratedTokens of the Azure Public Dataset (LLM inference traces 2023,
CC-BY 4.0). The work of a request is modelled as a + b × ContextTokens + c × GeneratedTokens.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime

BASE_MS, CONTEXT_TOKEN_MS, GENERATED_TOKEN_MS = 20.0, 0.05, 20.0
BYTES_PER_TOKEN = 4


def rows(
    lines: Iterable[str],
    base_ms: float = BASE_MS,
    context_token_ms: float = CONTEXT_TOKEN_MS,
    generated_token_ms: float = GENERATED_TOKEN_MS,
) -> Iterator[tuple[float, float, int]]:
    """(arrival in seconds from the first one, service time in ms, size in bytes) of each request.

    lines: of the public trace.
    base_ms, context_token_ms, generated_token_ms: a, b and c of the model of work.
    """
    first: datetime | None = None
    for row in csv.DictReader(lines):
        # seven digits of a second are one more than Python reads
        at = datetime.fromisoformat(row["TIMESTAMP"][:26])
        first = first or at
        context, generated = int(row["ContextTokens"]), int(row["GeneratedTokens"])
        work_ms = base_ms + context_token_ms * context + generated_token_ms * generated
        yield (at - first).total_seconds(), work_ms, BYTES_PER_TOKEN * context


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.llm_trace", description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--base-ms", type=float, default=BASE_MS)
    parser.add_argument("--context-token-ms", type=float, default=CONTEXT_TOKEN_MS)
    parser.add_argument("--generated-token-ms", type=float, default=GENERATED_TOKEN_MS)
    args = parser.parse_args()
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["arrival", "service_ms", "bytes"])
    with open(args.file, encoding="utf-8") as lines:
        for arrival_s, work_ms, size in rows(lines, args.base_ms, args.context_token_ms, args.generated_token_ms):
            out.writerow([f"{arrival_s:.6f}", f"{work_ms:.3f}", size])


if __name__ == "__main__":
    main()
