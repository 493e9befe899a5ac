-- Who acted: rows of a day that are alike in where, through whom and with what, counted.
SELECT date, tenant, environment, source, coalesce(delegated_actor, actor) AS principal, credential_type, audience,
       delegation[len(delegation) - 1] AS acts_for, min(time) AS first, max(time) AS last, count(*) AS n
FROM events
WHERE date >= $low AND date <= $high AND kind IN ('decision', 'action', 'issuance')
      AND coalesce(delegated_actor, actor) IS NOT NULL
GROUP BY ALL
-- In all
SELECT principal, min(first) AS first_seen, max(last) AS last_seen, CAST(sum(n) AS BIGINT) AS events,
       list_sort(list(DISTINCT environment) FILTER (environment IS NOT NULL)) AS environments,
       list_sort(list(DISTINCT tenant) FILTER (tenant IS NOT NULL)) AS tenants,
       list_sort(list(DISTINCT credential_type) FILTER (credential_type IS NOT NULL)) AS credential_types,
       list_sort(list(DISTINCT source)) AS sources,
       list_sort(list(DISTINCT acts_for) FILTER (acts_for IS NOT NULL))[1:50] AS acts_for,
       list_sort(list(DISTINCT audience) FILTER (audience IS NOT NULL))[1:50] AS audiences
FROM found GROUP BY principal ORDER BY principal
