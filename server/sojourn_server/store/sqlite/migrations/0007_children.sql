-- The children of a session, those of each status together: a turn's end looks for the ACTIVE
-- ones, and a long-lived parent may have thousands that have ended.
DROP INDEX session_parent;
CREATE INDEX session_parent ON session (parent, status) WHERE parent IS NOT NULL;
