-- What policies look for: the ACTIVE sessions of an app that are idle longest, for quotas, and
-- those that have ended, in the order of their end, for retention. 1 is ACTIVE. An ended
-- session is not written any more, so its update time is when it ended.
CREATE INDEX session_idle ON session (app_pk, activity_time, pk) WHERE status = 1;
CREATE INDEX session_ended ON session (app_pk, update_time, pk) WHERE status <> 1;

-- Lists by activity merge the ACTIVE sessions with all others: so a write of an ACTIVE one,
-- which moves its activity, costs no more than the one index that was there for both.
CREATE INDEX session_rested ON session (app_pk, activity_time, pk) WHERE status <> 1;
DROP INDEX session_activity;
