"""The public trace of a language model in the columns of scorefront."""

from loadtests.llm_trace import rows

PUBLIC = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
"""


def test_arrivals_begin_at_zero_and_work_follows_the_tokens() -> None:
    first, second = rows(PUBLIC.splitlines(), base_ms=10, context_token_ms=0.1, generated_token_ms=5)
    assert first == (0.0, 10 + 480.8 + 50, 4 * 4808)
    assert second == (0.052, 10 + 318 + 40, 4 * 3180)
