-- What the metrics share, over the days from $low to $high, whose rows are `own`, and the day before: events
-- without declared drills, the impact by tier, who counts as an agent, what was decided about each action.
told AS (
    SELECT e.*, e.date >= $low AS own, coalesce(e.delegated_actor, e.actor) AS principal,
           coalesce(e.impact, t.impact) AS tiered_impact,
           coalesce(s.agentic, false)
               OR EXISTS (
                   SELECT 1 FROM agent_patterns p
                   WHERE e.source LIKE p.source ESCAPE '!'
                     AND coalesce(e.delegated_actor, e.actor, '') LIKE p.principal ESCAPE '!'
                     AND e.time >= p.since AND e.time < p.until
               )
               OR coalesce(starts_with(coalesce(e.delegated_actor, e.actor), 'agent:'), false) AS agentic,
           make_timestamptz(epoch_us(e.time) // 900000000 * 900000000) AS slot
    FROM events e
    LEFT JOIN tiers t ON t.action = e.action AND e.time >= t.since AND e.time < t.until
    LEFT JOIN agentic_sources s ON s.source = e.source AND e.time >= s.since AND e.time < s.until
    WHERE e.date >= $before AND e.date <= $high AND NOT EXISTS (
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
    SELECT date, source, event_id, trace_id, task_id, action, resource, principal, time, slot, tenant, environment,
           decision_ref, destination, sensitive, agentic, outcome
    FROM seen WHERE kind = 'action' AND own
), named AS (
    -- An action and each decision that it names: whether the fields agree is judged later.
    SELECT a.source, a.event_id, a.sensitive, d.decision, d.by_policy,
           d.action = a.action AND d.resource = a.resource AND d.principal = a.principal AS agrees
    FROM done a JOIN decided d ON d.source = a.source AND d.event_id = a.decision_ref
    UNION ALL
    SELECT a.source, a.event_id, a.sensitive, d.decision, d.by_policy,
           d.action = a.action AND d.resource = a.resource AND d.principal = a.principal
    FROM done a JOIN decided d ON d.ref = a.decision_ref WHERE contains(a.decision_ref, '#')
), missing AS (
    -- It names a decision that lies further back.
    SELECT a.source, a.event_id, a.sensitive, a.decision_ref, a.action, a.resource, a.principal
    FROM done a LEFT JOIN named n ON n.source = a.source AND n.event_id = a.event_id
    WHERE a.decision_ref IS NOT NULL AND n.event_id IS NULL
), answers AS (
    SELECT source, event_id, sensitive, decision, by_policy FROM named WHERE agrees
    UNION ALL
    SELECT a.source, a.event_id, a.sensitive, e.decision,
           e.policy_engine IS NOT NULL AND e.policy_version IS NOT NULL
    FROM missing a JOIN events e
        ON (e.source = a.source AND e.event_id = a.decision_ref)
    WHERE e.kind = 'decision' AND e.date < $before
        AND e.action = a.action AND e.resource = a.resource AND coalesce(e.delegated_actor, e.actor) = a.principal
    UNION ALL
    SELECT a.source, a.event_id, a.sensitive, e.decision,
           e.policy_engine IS NOT NULL AND e.policy_version IS NOT NULL
    FROM missing a JOIN events e ON e.source || '#' || e.event_id = a.decision_ref
    WHERE contains(a.decision_ref, '#') AND e.kind = 'decision' AND e.date < $before
        AND e.action = a.action AND e.resource = a.resource AND coalesce(e.delegated_actor, e.actor) = a.principal
    UNION ALL
    -- It names none: what was decided about the same within five minutes before.
    SELECT a.source, a.event_id, a.sensitive, d.decision, d.by_policy
    FROM done a JOIN decided d ON d.trace_id = a.trace_id AND d.action = a.action
        AND d.resource = a.resource AND d.principal = a.principal
    WHERE a.decision_ref IS NULL AND d.time <= a.time AND d.time >= a.time - INTERVAL 5 MINUTE
), judged AS (
    SELECT source, event_id, sensitive, bool_or(by_policy AND decision = 'allow') AS allowed,
           bool_or(by_policy) AS evaluated, bool_or(decision = 'deny') AS denied
    FROM answers GROUP BY source, event_id, sensitive
)
