-- Which scopes each principal held on a day, and which of them its actions needed.
WITH alike AS (
    SELECT date, tenant, coalesce(delegated_actor, actor) AS principal, kind = 'action' AS acted, scopes,
           required_scopes, max(time) AS last
    FROM events
    WHERE date >= $low AND date <= $high AND kind IN ('decision', 'action', 'issuance')
          AND coalesce(delegated_actor, actor) IS NOT NULL
    GROUP BY ALL
)
SELECT date, tenant, principal, 'held' AS what, scope, max(last) AS last
FROM (SELECT date, tenant, principal, unnest(scopes) AS scope, last FROM alike) GROUP BY ALL
UNION ALL
SELECT date, tenant, principal, 'used', scope, max(last)
FROM (SELECT date, tenant, principal, unnest(required_scopes) AS scope, last FROM alike WHERE acted) GROUP BY ALL
-- In all
SELECT what, principal, scope, max(last) AS time FROM found GROUP BY what, principal, scope
