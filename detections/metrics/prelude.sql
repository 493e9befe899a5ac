-- What the metrics share: events without declared drills, the impact by tier, who counts as an agent.
told AS (
    SELECT e.*, coalesce(e.delegated_actor, e.actor) AS principal,
           coalesce(e.impact, t.impact) AS tiered_impact,
           coalesce(s.agentic, false)
               OR coalesce(starts_with(coalesce(e.delegated_actor, e.actor), 'agent:'), false) AS agentic,
           date_trunc('hour', e.time)
               + to_minutes(CAST(floor(extract('minute' FROM e.time) / 15) * 15 AS BIGINT)) AS slot
    FROM events e
    LEFT JOIN tiers t ON t.action = e.action AND e.time >= t.since AND e.time < t.until
    LEFT JOIN agentic_sources s ON s.source = e.source AND e.time >= s.since AND e.time < s.until
    WHERE NOT EXISTS (
        SELECT 1 FROM drills d
        WHERE d.id = e.exercise AND d.source = e.source AND e.time >= d.begins_at AND e.time < d.ends_at
    )
), seen AS (
    SELECT *, coalesce(tiered_impact = 'high', false) OR coalesce(data_class = 'restricted', false) AS sensitive
    FROM told
), decided AS (
    SELECT source, event_id, source || '#' || event_id AS ref, trace_id, action, resource, principal, time,
           decision, policy_engine IS NOT NULL AND policy_version IS NOT NULL AS by_policy
    FROM seen WHERE kind = 'decision'
), done AS (
    SELECT source, event_id, trace_id, task_id, action, resource, principal, time, slot, tenant, environment,
           decision_ref, destination, sensitive, agentic, outcome
    FROM seen WHERE kind = 'action'
), answers AS (
    -- An action and each decision that speaks of it: by its reference, whose fields must agree, else by trace.
    SELECT a.source, a.event_id, a.sensitive, d.decision, d.by_policy
    FROM done a JOIN decided d ON d.source = a.source AND d.event_id = a.decision_ref
    WHERE d.action = a.action AND d.resource = a.resource AND d.principal = a.principal
    UNION ALL
    SELECT a.source, a.event_id, a.sensitive, d.decision, d.by_policy
    FROM done a JOIN decided d ON d.ref = a.decision_ref
    WHERE contains(a.decision_ref, '#') AND d.action = a.action AND d.resource = a.resource AND d.principal = a.principal
    UNION ALL
    SELECT a.source, a.event_id, a.sensitive, d.decision, d.by_policy
    FROM done a JOIN decided d ON d.trace_id = a.trace_id AND d.action = a.action
        AND d.resource = a.resource AND d.principal = a.principal
    WHERE a.decision_ref IS NULL AND d.time <= a.time AND d.time >= a.time - INTERVAL 5 MINUTE
), judged AS (
    SELECT source, event_id, sensitive, bool_or(by_policy AND decision = 'allow') AS allowed,
           bool_or(by_policy) AS evaluated, bool_or(decision = 'deny') AS denied
    FROM answers GROUP BY source, event_id, sensitive
)
