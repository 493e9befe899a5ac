-- Tasks that succeeded with at least one action, each of them decided by a policy and none past it, of all that ended.
WITH ended AS (
    SELECT task_id, max(time) AS time FROM seen
    WHERE kind = 'task' AND task_id IS NOT NULL AND outcome IS NOT NULL AND outcome <> 'started'
    GROUP BY task_id
), last AS (
    SELECT e.task_id, min(t.slot) AS slot, min(t.tenant) AS tenant, min(t.environment) AS environment,
           min(t.source) AS source, bool_and(t.outcome = 'succeeded') AS succeeded
    FROM ended e JOIN seen t ON t.task_id = e.task_id AND t.time = e.time
    WHERE t.kind = 'task' AND t.outcome <> 'started'
    GROUP BY e.task_id
), mediated AS (
    SELECT trace_id, destination FROM seen
    WHERE kind = 'decision' AND pep = 'egress' AND decision = 'allow' AND destination IS NOT NULL
    GROUP BY trace_id, destination
), work AS (
    SELECT a.task_id, count(*) AS actions,
           bool_and(coalesce(j.evaluated, false) AND (NOT a.sensitive OR coalesce(j.allowed, false))
                    AND (a.destination IS NULL OR m.destination IS NOT NULL)) AS clean
    FROM done a LEFT JOIN judged j ON j.source = a.source AND j.event_id = a.event_id
        LEFT JOIN mediated m ON m.trace_id = a.trace_id AND m.destination = a.destination
    WHERE a.task_id IS NOT NULL GROUP BY a.task_id
), counted AS (
    SELECT l.slot, l.tenant, l.environment, l.source,
           count(*) FILTER (l.succeeded AND coalesce(w.clean, false)) AS numerator, count(*) AS denominator,
           count(*) FILTER (l.succeeded) AS succeeded, 0 AS unended, 0 AS actions_without_task
    FROM last l LEFT JOIN work w ON w.task_id = l.task_id
    GROUP BY l.slot, l.tenant, l.environment, l.source
    UNION ALL
    SELECT s.slot, s.tenant, s.environment, s.source, 0, 0, 0, count(DISTINCT s.task_id), 0
    FROM seen s LEFT JOIN ended e ON e.task_id = s.task_id
    WHERE s.kind = 'task' AND s.outcome = 'started' AND e.task_id IS NULL
    GROUP BY s.slot, s.tenant, s.environment, s.source
    UNION ALL
    SELECT slot, tenant, environment, source, 0, 0, 0, 0, count(*) FROM done WHERE task_id IS NULL
    GROUP BY slot, tenant, environment, source
)
SELECT slot, tenant, environment, source, sum(numerator) AS numerator, sum(denominator) AS denominator,
       sum(succeeded) AS succeeded, sum(unended) AS unended, sum(actions_without_task) AS actions_without_task
FROM counted GROUP BY slot, tenant, environment, source
