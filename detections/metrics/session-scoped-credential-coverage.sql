-- Actions of agents whose credential is bound to a session and in its time, of all actions of agents.
SELECT date, slot, tenant, environment, source,
       count(*) FILTER (
           credential_type IN ('session', 'capability') AND session_id IS NOT NULL
           AND expires_at IS NOT NULL AND expires_at >= time
       ) AS numerator,
       count(*) AS denominator
FROM seen WHERE own AND kind = 'action' AND agentic
GROUP BY date, slot, tenant, environment, source
-- In all
SELECT slot, tenant, environment, source, numerator, denominator FROM found
