-- Actions of agents whose credential holds a scope beyond the action's baseline, of those whose baseline is known.
SELECT slot, tenant, environment, source,
       count(*) FILTER (exceeds(scopes, required_scopes)) AS numerator,
       count(*) FILTER (scopes IS NOT NULL AND required_scopes IS NOT NULL) AS denominator,
       count(*) AS actions
FROM seen WHERE kind = 'action' AND agentic
GROUP BY slot, tenant, environment, source
