-- Actions of agents whose credential holds a scope beyond the action's baseline, of those whose baseline is known.
WITH held AS (
    SELECT date, slot, tenant, environment, source, scopes, required_scopes, count(*) AS n
    FROM seen WHERE own AND kind = 'action' AND agentic
    GROUP BY date, slot, tenant, environment, source, scopes, required_scopes
)
SELECT date, slot, tenant, environment, source,
       sum(CASE WHEN exceeds(scopes, required_scopes) THEN n ELSE 0 END) AS numerator,
       sum(CASE WHEN scopes IS NOT NULL AND required_scopes IS NOT NULL THEN n ELSE 0 END) AS denominator,
       sum(n) AS actions
FROM held GROUP BY date, slot, tenant, environment, source
-- In all
SELECT slot, tenant, environment, source, numerator, denominator, actions FROM found
