"""The tables and functions that a database needs for failovers to be told apart, and causes to travel with effects.

Owns the SQL that a database's owner runs once, by `causal postgres install` or by hand. Running it again changes nothing.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from causal.errors import ConfigError, StoreError
from causal.stores.postgres.exchange import first_line

KEPT: Final = 64
"""How many origins are kept: as many starts of a primary may lie between a token and its last use."""

SCHEMA: Final = f"""
CREATE SCHEMA IF NOT EXISTS causal;

-- What somebody else made in advance may hold triggers, which would run with the rights of whoever owns the functions below.
DO $$
DECLARE
  stranger text;
BEGIN
  SELECT r.rolname INTO stranger
    FROM pg_catalog.pg_namespace n
    LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
    LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
    JOIN pg_catalog.pg_roles r ON r.oid IN (n.nspowner, c.relowner, p.proowner)
    WHERE n.nspname = 'causal' AND r.rolname <> current_user AND NOT r.rolsuper LIMIT 1;
  IF stranger IS NOT NULL THEN
    RAISE EXCEPTION 'schema causal, or something in it, belongs to %: install as that role, or drop what it made', stranger
      USING ERRCODE = 'invalid_schema_definition';
  END IF;
END $$;

-- One row for each life of a primary: an origin. Replicated in order, so a server's own copy is its lineage.
CREATE TABLE IF NOT EXISTS causal.lineage (
  seq bigint PRIMARY KEY,
  origin bigint NOT NULL UNIQUE CHECK (origin BETWEEN 1 AND 4294967295),
  parent_end pg_lsn,              -- where the history before it ended; NULL: nobody can know
  start pg_lsn NOT NULL,          -- it begins after this
  timeline integer NOT NULL,
  started timestamptz NOT NULL,   -- pg_postmaster_start_time()
  recovered pg_lsn,               -- where the recovery ended that this life began with; NULL: a clean start
  system bigint NOT NULL,         -- of which cluster: a dump takes the rows to another, whose numbers are others
  made timestamptz NOT NULL DEFAULT now()
);

-- The origin that was begun last here. A crash empties it, a clean shutdown does not.
CREATE UNLOGGED TABLE IF NOT EXISTS causal.unbroken (origin bigint NOT NULL);

-- Where a timeline was left, from the server's own history file. NULL for an owner who may not read it.
CREATE OR REPLACE FUNCTION causal.left_at(now_on integer, was_on integer) RETURNS pg_lsn
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  history text;
  line text;
BEGIN
  history := pg_read_file('pg_wal/' || lpad(upper(to_hex(now_on)), 8, '0') || '.history');
  FOREACH line IN ARRAY string_to_array(history, E'\\n') LOOP
    IF line ~ '^[0-9]+\\s+[0-9A-F]+/[0-9A-F]+' AND substring(line FROM '^([0-9]+)')::integer = was_on THEN
      RETURN substring(line FROM '^[0-9]+\\s+([0-9A-F]+/[0-9A-F]+)')::pg_lsn;
    END IF;
  END LOOP;
  RETURN NULL;
EXCEPTION WHEN insufficient_privilege OR undefined_file THEN
  RETURN NULL;
END $$;

-- The origin of this primary's present life; a new one if it has none yet. Committed durably before any position of it is handed out.
CREATE OR REPLACE FUNCTION causal.begin_origin() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  last causal.lineage%ROWTYPE;
  mine bigint;
  tli integer;
  recovery pg_lsn := pg_last_wal_replay_lsn();
  checkpoint pg_lsn;
  redo pg_lsn;
  ended pg_lsn;
  here bigint := system_identifier FROM pg_control_system();
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'a standby begins no origin' USING ERRCODE = 'read_only_sql_transaction';
  END IF;
  PERFORM pg_advisory_xact_lock(6003317742519041347);
  tli := ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::integer;
  SELECT * INTO last FROM causal.lineage ORDER BY seq DESC LIMIT 1;
  IF last.origin IS NOT NULL AND last.timeline = tli AND last.started = pg_postmaster_start_time()
     AND last.recovered IS NOT DISTINCT FROM recovery AND last.system = here THEN
    RETURN last.origin;
  END IF;
  IF last.origin IS NOT NULL AND last.system = here THEN
    IF last.timeline <> tli THEN
      ended := causal.left_at(tli, last.timeline);
      -- Not told, but promoted in this very life, from that very timeline: who has never crashed still knows where it received up to.
      IF ended IS NULL AND tli = last.timeline + 1 AND pg_last_wal_receive_lsn() IS NOT NULL THEN
        ended := recovery;
      END IF;
    ELSIF recovery IS NOT NULL THEN
      ended := recovery;  -- crashed, or put back: what is past this is gone. HAZARD: not so after two crashes with nobody here in between
    ELSIF EXISTS (SELECT FROM causal.unbroken u WHERE u.origin = last.origin) THEN
      SELECT checkpoint_lsn, redo_lsn INTO checkpoint, redo FROM pg_control_checkpoint();
      -- Clean starts and nothing else: the checkpoint of the shutdown, while it is the last one; later, some place after it.
      ended := CASE WHEN redo = checkpoint THEN checkpoint ELSE pg_current_wal_insert_lsn() END;
    END IF;  -- else there was a life that nobody saw, and it began with a crash
  END IF;
  LOOP
    mine := ('x' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 8))::bit(32)::bigint;
    EXIT WHEN mine > 0 AND NOT EXISTS (SELECT FROM causal.lineage l WHERE l.origin = mine);
  END LOOP;
  PERFORM set_config('synchronous_commit', 'local', true);
  INSERT INTO causal.lineage (seq, origin, parent_end, start, timeline, started, recovered, system)
    VALUES (COALESCE(last.seq, 0) + 1, mine, ended, pg_current_wal_insert_lsn(), tli, pg_postmaster_start_time(), recovery, here);
  DELETE FROM causal.unbroken;
  INSERT INTO causal.unbroken VALUES (mine);
  DELETE FROM causal.lineage WHERE seq <= COALESCE(last.seq, 0) + 1 - {KEPT};
  RETURN mine;
END $$;

-- The timeline that a standby receives at present, and the process that does. Who owns this must see pg_stat_wal_receiver (pg_monitor);
-- its callers need not.
CREATE OR REPLACE FUNCTION causal.receiver(OUT timeline integer, OUT pid integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.received_tli, r.pid FROM pg_stat_wal_receiver r WHERE r.status = 'streaming' LIMIT 1
$$;
REVOKE ALL ON FUNCTION causal.left_at(integer, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION causal.begin_origin() FROM PUBLIC;
REVOKE ALL ON FUNCTION causal.receiver() FROM PUBLIC;
"""

STAMPS: Final = """
-- What this database's writes depend on in other shards, at most: see the guide for what holds without it.
CREATE TABLE IF NOT EXISTS causal.dependency (
  slot smallint NOT NULL,
  shard bigint NOT NULL,
  origin bigint NOT NULL,
  upto bigint NOT NULL,
  PRIMARY KEY (slot, shard, origin)
) WITH (fillfactor = 50);
"""

GRANTS: Final = """
GRANT USAGE ON SCHEMA causal TO {role};
GRANT SELECT ON causal.lineage TO {role};
GRANT EXECUTE ON FUNCTION causal.begin_origin() TO {role};
GRANT EXECUTE ON FUNCTION causal.receiver() TO {role};
"""
STAMP_GRANTS: Final = "GRANT SELECT, INSERT, UPDATE ON causal.dependency TO {role};\n"


def script(roles: tuple[str, ...] = (), *, stamps: bool = True) -> str:
    """Return the SQL that installs everything, for those who run it themselves. Roles are quoted; none means PUBLIC."""
    text = SCHEMA + (STAMPS if stamps else "")
    for role in roles or ("PUBLIC",):
        quoted = role if role == "PUBLIC" else sql.Identifier(role).as_string(None)
        text += (GRANTS + (STAMP_GRANTS if stamps else "")).format(role=quoted)
    return text


def install(dsn: str, roles: tuple[str, ...] = (), *, stamps: bool = True) -> None:
    """Install the tables and functions in a primary's database, and let `roles` (none: everybody who may connect) use them.

    Safe to run again: what is there stays. Raises: ConfigError if whoever runs it lacks a privilege, which it names; StoreError.
    """
    try:
        with psycopg.connect(dsn) as connection:
            may_see = connection.execute(
                "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), current_user, pg_catalog.pg_is_in_recovery()"
            ).fetchone()
            assert may_see is not None
            if may_see[2]:
                raise ConfigError("this is a standby: install at the primary, and the standbys follow")
            if not may_see[0]:
                role = sql.Identifier(may_see[1]).as_string(connection)
                raise ConfigError(
                    f"{role} cannot see which timeline a standby follows, which a function that it is to own must: "
                    f"run GRANT pg_monitor TO {role}, or install as a superuser"
                )
            connection.execute(script(roles, stamps=stamps).encode())
            connection.execute("SELECT causal.begin_origin()")
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"not allowed: {first_line(str(error))}. The database's owner can: GRANT CREATE ON DATABASE ... TO the role that installs"
        ) from error
    except psycopg.errors.InvalidSchemaDefinition as error:
        raise ConfigError(f"not installed: {first_line(str(error))}") from error
    except psycopg.Error as error:
        raise StoreError(f"cannot install: {first_line(str(error))}") from error
