"""The scope grammar: `resource:verb`, split at the last colon; `*` stands for one whole side.

The same rule twice, side by side: for rows in Python and as macros for SQL. A property test holds them
against each other (docs/event-model.md, "Definitions that rules and metrics share").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SCOPE_MACROS: Final = (
    # The verb keeps its colon here, so that `*` alone is no verb.
    "CREATE MACRO scope_resource(scope) AS regexp_replace(scope, ':[^:]*$', '')",
    "CREATE MACRO scope_verb(scope) AS substr(scope, length(scope_resource(scope)) + 1)",
    "CREATE MACRO covers(b, a) AS"
    " (scope_resource(b) = '*' AND contains(b, ':') OR scope_resource(b) = scope_resource(a))"
    " AND (scope_verb(b) = ':*' AND contains(a, ':') OR scope_verb(b) = scope_verb(a))",
    "CREATE MACRO exceeds(a, b) AS CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE"
    " len(list_filter(a, lambda x: len(list_filter(b, lambda y: covers(y, x))) = 0)) > 0 END",
)
"""`covers(b, a)` and `exceeds(a, b)` in DuckDB's SQL."""


def covers(wide: str, scope: str) -> bool:
    """Whether `wide` covers `scope`: both sides are equal, or `*` in `wide`."""
    resource, colon, verb = scope.rpartition(":")
    wide_resource, wide_colon, wide_verb = wide.rpartition(":")
    if not colon or not wide_colon:
        return wide == scope
    return wide_resource in ("*", resource) and wide_verb in ("*", verb)


def beyond(scopes: Iterable[str], bounds: Iterable[str]) -> tuple[str, ...]:
    """Those of `scopes` that nothing in `bounds` covers, in their order."""
    wide = tuple(bounds)
    return tuple(scope for scope in scopes if not any(covers(one, scope) for one in wide))
