-- For each target of a compromise signal: seconds from the first one to the last accepted and the first blocked use.
WITH used AS (
    SELECT date, credential_id, parent_credential_id, session_id, principal, issued_at, time,
           (kind = 'action' AND outcome = 'succeeded') OR (kind = 'decision' AND decision = 'allow') AS accepted
    FROM seen
    WHERE own AND ((kind = 'action' AND outcome = 'succeeded') OR (kind = 'decision' AND decision IN ('allow', 'deny')))
), after AS (
    SELECT u.date, s.target, u.time, u.accepted
    FROM signal s JOIN used u ON s.target = 'credential:' || u.credential_id WHERE u.time > s.signalled_at
    UNION ALL
    SELECT u.date, s.target, u.time, u.accepted
    FROM signal s JOIN used u ON s.target = 'credential:' || u.parent_credential_id WHERE u.time > s.signalled_at
    UNION ALL
    SELECT u.date, s.target, u.time, u.accepted
    FROM signal s JOIN used u ON s.target = 'session:' || u.session_id WHERE u.time > s.signalled_at
    UNION ALL
    SELECT u.date, s.target, u.time, u.accepted
    FROM signal s JOIN used u ON s.target = u.principal
    WHERE u.time > s.signalled_at AND u.issued_at < s.signalled_at
)
SELECT date, target, max(time) FILTER (accepted) AS last_use, min(time) FILTER (NOT accepted) AS first_block
FROM after GROUP BY date, target
-- In all
WITH summed AS (
    SELECT target, max(last_use) AS last_use, min(first_block) AS first_block FROM found GROUP BY target
)
SELECT s.target, s.signalled_at AS time, s.tenant, s.environment, s.source,
       CASE WHEN u.last_use IS NULL THEN 0.0
            ELSE date_diff('microsecond', s.signalled_at, u.last_use) / 1e6 END AS last_use_seconds,
       date_diff('microsecond', s.signalled_at, u.first_block) / 1e6 AS first_block_seconds,
       CASE WHEN u.target IS NULL THEN 'censored'
            WHEN u.last_use IS NOT NULL AND u.first_block IS NULL THEN 'open'
            ELSE 'effective' END AS state
FROM signal s LEFT JOIN summed u ON u.target = s.target
ORDER BY s.signalled_at, s.target
