-- Tasks that succeeded with at least one action, each of them decided by a policy and none past it, of all that ended.
WITH ended AS (
    SELECT date, task_id, max(time) AS time FROM seen
    WHERE own AND kind = 'task' AND task_id IS NOT NULL AND outcome IS NOT NULL AND outcome <> 'started'
    GROUP BY date, task_id
), mediated AS (
    SELECT trace_id, destination FROM seen
    WHERE kind = 'decision' AND pep = 'egress' AND decision = 'allow' AND destination IS NOT NULL
    GROUP BY trace_id, destination
)
SELECT e.date, 'end' AS part, e.task_id, e.time, min(t.slot) AS slot, min(t.tenant) AS tenant,
       min(t.environment) AS environment, min(t.source) AS source,
       CAST(bool_and(t.outcome = 'succeeded') AS INTEGER) AS good, 1 AS n
FROM ended e JOIN seen t ON t.task_id = e.task_id AND t.time = e.time
WHERE t.own AND t.kind = 'task' AND t.outcome <> 'started'
GROUP BY e.date, e.task_id, e.time
UNION ALL
SELECT a.date, 'work', a.task_id, NULL, NULL, NULL, NULL, NULL,
       CAST(bool_and(coalesce(j.evaluated, false) AND (NOT a.sensitive OR coalesce(j.allowed, false))
                     AND (a.destination IS NULL OR m.destination IS NOT NULL)) AS INTEGER), count(*)
FROM done a LEFT JOIN judged j ON j.source = a.source AND j.event_id = a.event_id
    LEFT JOIN mediated m ON m.trace_id = a.trace_id AND m.destination = a.destination
WHERE a.task_id IS NOT NULL GROUP BY a.date, a.task_id
UNION ALL
SELECT s.date, 'start', s.task_id, NULL, s.slot, s.tenant, s.environment, s.source, NULL, 1
FROM seen s LEFT JOIN ended e ON e.task_id = s.task_id
WHERE s.own AND s.kind = 'task' AND s.outcome = 'started' AND e.task_id IS NULL
GROUP BY s.date, s.task_id, s.slot, s.tenant, s.environment, s.source
UNION ALL
SELECT date, 'no task', NULL, NULL, slot, tenant, environment, source, NULL, count(*)
FROM done WHERE task_id IS NULL GROUP BY date, slot, tenant, environment, source
-- In all
WITH ended AS (
    SELECT task_id, max(time) AS time FROM found WHERE part = 'end' GROUP BY task_id
), last AS (
    SELECT f.task_id, f.slot, f.tenant, f.environment, f.source, f.good = 1 AS succeeded
    FROM found f JOIN ended e ON e.task_id = f.task_id AND e.time = f.time WHERE f.part = 'end'
), work AS (
    SELECT task_id, min(good) = 1 AS clean FROM found WHERE part = 'work' GROUP BY task_id
), counted AS (
    SELECT l.slot, l.tenant, l.environment, l.source,
           count(*) FILTER (l.succeeded AND coalesce(w.clean, false)) AS numerator, count(*) AS denominator,
           count(*) FILTER (l.succeeded) AS succeeded, 0 AS unended, 0 AS actions_without_task
    FROM last l LEFT JOIN work w ON w.task_id = l.task_id
    GROUP BY l.slot, l.tenant, l.environment, l.source
    UNION ALL
    SELECT s.slot, s.tenant, s.environment, s.source, 0, 0, 0, count(DISTINCT s.task_id), 0
    FROM found s LEFT JOIN ended e ON e.task_id = s.task_id
    WHERE s.part = 'start' AND e.task_id IS NULL
    GROUP BY s.slot, s.tenant, s.environment, s.source
    UNION ALL
    SELECT slot, tenant, environment, source, 0, 0, 0, 0, n FROM found WHERE part = 'no task'
)
SELECT slot, tenant, environment, source, sum(numerator) AS numerator, sum(denominator) AS denominator,
       sum(succeeded) AS succeeded, sum(unended) AS unended, sum(actions_without_task) AS actions_without_task
FROM counted GROUP BY slot, tenant, environment, source
