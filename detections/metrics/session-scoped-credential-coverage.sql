-- Actions of agents whose credential is bound to a session and in its time, of all actions of agents.
SELECT slot, tenant, environment, source,
       count(*) FILTER (
           credential_type IN ('session', 'capability') AND session_id IS NOT NULL
           AND expires_at IS NOT NULL AND expires_at >= time
       ) AS numerator,
       count(*) AS denominator
FROM seen WHERE kind = 'action' AND agentic
GROUP BY slot, tenant, environment, source
