-- The first compromise signal of each target; what revocation-effectiveness-time goes by.
SELECT date, target, min(time) AS signalled_at, min(tenant) AS tenant, min(environment) AS environment,
       min(source) AS source
FROM seen
WHERE own AND kind = 'signal' AND target IS NOT NULL
  AND reason IN ('session-revoked', 'credential-compromised', 'risk-level-change:HIGH')
GROUP BY date, target
-- In all
SELECT target, min(signalled_at) AS signalled_at, min(tenant) AS tenant, min(environment) AS environment,
       min(source) AS source
FROM found GROUP BY target ORDER BY signalled_at, target
