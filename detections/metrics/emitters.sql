-- What emitters say of themselves on a day: heartbeats, and counters that bound what may be missing.
WITH own_words AS (
    SELECT date, source, instance, time, kind, sequence, sent, dropped, session_id,
           CASE WHEN attributes LIKE '%"req_id":%'
                THEN TRY_CAST(json_extract_string(attributes, '$.req_id') AS BIGINT) END AS request,
           CASE WHEN attributes LIKE '%"ei":%'
                THEN TRY_CAST(json_extract_string(attributes, '$.ei') AS BIGINT) END AS item
    FROM events
    WHERE date >= $low AND date <= $high AND kind NOT IN ('alert', 'case', 'access')
), beats AS (
    SELECT date, source, instance, min(time) AS first_beat, max(time) AS last_beat,
           min(sent) AS sent_low, max(sent) AS sent_high, max(dropped) AS dropped
    FROM own_words WHERE kind = 'heartbeat' GROUP BY date, source, instance
), around AS (
    SELECT t.date, t.source, t.instance, count(*) FILTER (t.time <= b.first_beat) AS up_to_first,
           count(*) FILTER (t.time > b.last_beat) AS after_last
    FROM own_words t JOIN beats b
      ON b.date = t.date AND b.source = t.source AND b.instance IS NOT DISTINCT FROM t.instance
    GROUP BY t.date, t.source, t.instance
), items AS (
    SELECT date, source, instance, max(item) - min(item) + 1 - count(DISTINCT item) AS skipped
    FROM own_words WHERE item IS NOT NULL GROUP BY date, source, instance, session_id
), skips AS (
    SELECT date, source, instance, CAST(sum(skipped) AS BIGINT) AS skipped FROM items GROUP BY date, source, instance
), counted AS (
    SELECT date, source, instance, max(time) AS last_at, count(*) AS n, count(sequence) FILTER (kind <> 'heartbeat') AS numbered,
           min(request) AS request_low, max(request) AS request_high, count(DISTINCT request) AS requests
    FROM own_words GROUP BY date, source, instance
)
SELECT c.*, b.first_beat, b.sent_low, b.sent_high, b.dropped, a.up_to_first, a.after_last, s.skipped
FROM counted c
LEFT JOIN beats b
  ON b.date = c.date AND b.source = c.source AND b.instance IS NOT DISTINCT FROM c.instance
LEFT JOIN around a
  ON a.date = c.date AND a.source = c.source AND a.instance IS NOT DISTINCT FROM c.instance
LEFT JOIN skips s
  ON s.date = c.date AND s.source = c.source AND s.instance IS NOT DISTINCT FROM c.instance
-- In all
SELECT * FROM found
