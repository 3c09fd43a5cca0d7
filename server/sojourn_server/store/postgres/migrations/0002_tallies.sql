-- Counts and sums of sessions, kept with every write of a session, so that what an app
-- holds is known without reading its sessions. `backfill.py` fills them for the sessions
-- that are there: only the server can read their records. Until it has, nobody writes.
LOCK TABLE app, session IN EXCLUSIVE MODE;

-- How many sessions the app has, and how many of them are ACTIVE.
ALTER TABLE app ADD COLUMN active bigint NOT NULL DEFAULT 0;
ALTER TABLE app ADD COLUMN sessions bigint NOT NULL DEFAULT 0;

-- What the sessions of one status add up to: of one user (of_user 1), or of all users of
-- the app (of_user 0, user empty). There is a row only where there are sessions. Sums are
-- exact, beyond 64 bits too: what was added can always be taken away again.
CREATE TABLE tally (
  app_pk          integer NOT NULL,
  of_user         smallint NOT NULL,
  status          smallint NOT NULL,
  user_id         text COLLATE "C" NOT NULL,
  sessions        bigint NOT NULL,
  requests        numeric NOT NULL,
  errors          numeric NOT NULL,
  processing_time numeric NOT NULL,
  messages        numeric NOT NULL,
  PRIMARY KEY (app_pk, of_user, status, user_id)
) WITH (fillfactor = 50);

-- The same for counters, which have names. A row whose value is 0 is as good as none.
CREATE TABLE tally_counter (
  app_pk  integer NOT NULL,
  of_user smallint NOT NULL,
  status  smallint NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  name    text COLLATE "C" NOT NULL,
  value   numeric NOT NULL,
  PRIMARY KEY (app_pk, of_user, status, user_id, name)
) WITH (fillfactor = 50);
