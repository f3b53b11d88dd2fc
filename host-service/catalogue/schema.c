/* host-service/catalogue/schema.c - the tables, as the scripts that lead from one schema version to the next.
 *
 * A script that was released is never changed: a later one alters what it made. */
#include "host-service/catalogue/sql.h"

static const char version_1[] =
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
        "INSERT INTO meta VALUES ('events_forgotten', 0);"

        "CREATE TABLE vms ("
        " name TEXT PRIMARY KEY, qmp TEXT UNIQUE, agent TEXT UNIQUE, network INTEGER NOT NULL,"
        " pin BLOB UNIQUE, token_hash TEXT UNIQUE, created INTEGER NOT NULL, last_seen INTEGER NOT NULL "
        "DEFAULT 0,"
        " boot_id TEXT, hostname TEXT, last_release TEXT) STRICT;"

        "CREATE TABLE releases ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, version TEXT NOT NULL,"
        " digest BLOB NOT NULL UNIQUE, file TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,"
        " padded_size INTEGER NOT NULL, key_id BLOB NOT NULL, security_floor INTEGER NOT NULL,"
        " entries INTEGER NOT NULL, created INTEGER NOT NULL, imported INTEGER NOT NULL, description TEXT,"
        " UNIQUE (name, version)) STRICT;"
        "CREATE TABLE release_paths ("
        " path BLOB NOT NULL, release INTEGER NOT NULL REFERENCES releases ON DELETE CASCADE,"
        " PRIMARY KEY (path, release)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX release_paths_release ON release_paths (release);"

        "CREATE TABLE operations ("
        " id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, request TEXT NOT NULL, result TEXT,"
        " error INTEGER NOT NULL DEFAULT 0, text TEXT, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
        " cancel_requested INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,"
        " total INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;"
        "CREATE INDEX operations_unfinished ON operations (state) WHERE state IN ('queued', 'running');"

        /* vm is no foreign key: pushes stay as history when the VM is removed. */
        "CREATE TABLE pushes ("
        " operation TEXT NOT NULL REFERENCES operations ON DELETE CASCADE, vm TEXT NOT NULL,"
        " push_id BLOB NOT NULL UNIQUE, release_name TEXT, release_version TEXT, digest BLOB,"
        " options TEXT NOT NULL, state TEXT NOT NULL, final INTEGER NOT NULL DEFAULT 0, outcome TEXT NOT "
        "NULL,"
        " error INTEGER NOT NULL DEFAULT 0, text TEXT,"
        " bytes_total INTEGER NOT NULL DEFAULT 0, bytes_done INTEGER NOT NULL DEFAULT 0,"
        " entries_total INTEGER NOT NULL DEFAULT 0, entries_change INTEGER NOT NULL DEFAULT 0,"
        " entries_equal INTEGER NOT NULL DEFAULT 0, entries_blocked INTEGER NOT NULL DEFAULT 0,"
        " generation INTEGER NOT NULL DEFAULT 0, source INTEGER NOT NULL DEFAULT 0,"
        " source_changes INTEGER NOT NULL DEFAULT 0, staging_us INTEGER NOT NULL DEFAULT 0,"
        " switch_us INTEGER NOT NULL DEFAULT 0, plug TEXT, hook TEXT, hook_output TEXT,"
        " plan_total INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
        " stage_started INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (operation, vm)) STRICT;"
        "CREATE INDEX pushes_vm ON pushes (vm, operation);"
        "CREATE INDEX pushes_unfinished ON pushes (digest) WHERE final = 0;"

        "CREATE TABLE plan_items ("
        " operation TEXT NOT NULL, vm TEXT NOT NULL, idx INTEGER NOT NULL, path TEXT NOT NULL,"
        " action INTEGER NOT NULL, type INTEGER NOT NULL, reason TEXT, mount TEXT, owner_package TEXT,"
        " size INTEGER NOT NULL, PRIMARY KEY (operation, vm, idx),"
        " FOREIGN KEY (operation, vm) REFERENCES pushes ON DELETE CASCADE) STRICT, WITHOUT ROWID;"

        "CREATE TABLE events ("
        " seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, type TEXT NOT NULL,"
        " operation TEXT, vm TEXT, data TEXT NOT NULL) STRICT;"
        "CREATE INDEX events_operation ON events (operation, seq) WHERE operation IS NOT NULL;"
        "CREATE INDEX events_vm ON events (vm, seq) WHERE vm IS NOT NULL;"

        "CREATE TABLE idempotency ("
        " key TEXT PRIMARY KEY, request_hash TEXT NOT NULL, status INTEGER NOT NULL, response TEXT NOT NULL,"
        " created INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/* What is kept has bounds (retention.h): who asked for an operation, what has a plan, how large the events
 * are. */
static const char version_2[] =
        "ALTER TABLE operations ADD COLUMN guest TEXT;" /* the VM that asked for it; NULL: an operator */
        "CREATE INDEX operations_guest ON operations (guest, id) WHERE guest IS NOT NULL;"
        "CREATE INDEX operations_ended ON operations (updated) WHERE state NOT IN ('queued', 'running');"
        "CREATE INDEX pushes_planned ON pushes (vm, operation) WHERE plan_total > 0;"
        "INSERT INTO meta SELECT 'events_bytes', coalesce(sum(length(CAST(data AS BLOB))), 0) FROM events;"
        "CREATE TRIGGER events_grow AFTER INSERT ON events BEGIN"
        " UPDATE meta SET value = value + length(CAST(new.data AS BLOB)) WHERE key = 'events_bytes'; END;"
        "CREATE TRIGGER events_shrink AFTER DELETE ON events BEGIN"
        " UPDATE meta SET value = value - length(CAST(old.data AS BLOB)) WHERE key = 'events_bytes'; END;";

/* What an ended push may have left in the guest: its transaction, its window. */
static const char version_3[] =
        "ALTER TABLE pushes ADD COLUMN held INTEGER NOT NULL DEFAULT 0;"
        "CREATE INDEX pushes_held ON pushes (vm, operation) WHERE held <> 0;"
        "CREATE INDEX pushes_plugged ON pushes (vm, operation) WHERE plug IS NOT NULL;";

/* What cannot be written in the guest comes through its target file system. */
static const char version_4[] = "ALTER TABLE pushes ADD COLUMN entries_merged INTEGER NOT NULL DEFAULT 0;"
                                "ALTER TABLE plan_items ADD COLUMN merged INTEGER NOT NULL DEFAULT 0;"
                                "ALTER TABLE plan_items ADD COLUMN merge TEXT;"
                                "ALTER TABLE plan_items ADD COLUMN method INTEGER NOT NULL DEFAULT 0;";

/* Who still ran old code in the guest when the push had ended: JSON. */
static const char version_5[] = "ALTER TABLE pushes ADD COLUMN stale TEXT;";

/* What operators call groups of VMs. */
static const char version_6[] = "CREATE TABLE vm_labels ("
                                " vm TEXT NOT NULL REFERENCES vms ON DELETE CASCADE, key TEXT NOT NULL,"
                                " value TEXT NOT NULL, PRIMARY KEY (vm, key)) STRICT, WITHOUT ROWID;";

/* Releases to many VMs, wave by wave (docs/rollout.md). A push that is held back is nobody's to begin. */
static const char version_7[] =
        "CREATE TABLE rollouts ("
        " operation TEXT PRIMARY KEY REFERENCES operations ON DELETE CASCADE, state TEXT NOT NULL,"
        " wave INTEGER NOT NULL, waves INTEGER NOT NULL, canary INTEGER NOT NULL,"
        " max_failures INTEGER NOT NULL, pause_ms INTEGER NOT NULL, accepted INTEGER NOT NULL DEFAULT 0,"
        " next INTEGER NOT NULL DEFAULT 0, text TEXT, take_back INTEGER NOT NULL DEFAULT 0, rollback TEXT)"
        " STRICT, WITHOUT ROWID;"
        "ALTER TABLE pushes ADD COLUMN wave INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE pushes ADD COLUMN held_back INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE pushes ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;";

/* Who may come over the network. digest: SHA-256 of the secret, in hex. */
static const char version_8[] = "CREATE TABLE tokens ("
                                " name TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, scope TEXT NOT NULL,"
                                " created INTEGER NOT NULL, expires INTEGER NOT NULL DEFAULT 0,"
                                " revoked INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;";

/* Since when the VM's present boot is known: what was said of its processes before is over. */
static const char version_9[] = "ALTER TABLE vms ADD COLUMN booted INTEGER NOT NULL DEFAULT 0;";

/* VMs that are a libvirt's domains. */
static const char version_10[] =
        "ALTER TABLE vms ADD COLUMN libvirt TEXT;"
        "ALTER TABLE vms ADD COLUMN domain TEXT;"
        "CREATE UNIQUE INDEX vms_domain ON vms (libvirt, domain) WHERE libvirt IS NOT NULL;";

/* What deltas saved, and what of them could not be used. */
static const char version_11[] = "ALTER TABLE pushes ADD COLUMN delta_files INTEGER NOT NULL DEFAULT 0;"
                                 "ALTER TABLE pushes ADD COLUMN delta_bytes INTEGER NOT NULL DEFAULT 0;"
                                 "ALTER TABLE pushes ADD COLUMN delta_saved INTEGER NOT NULL DEFAULT 0;"
                                 "ALTER TABLE pushes ADD COLUMN delta_unsuited INTEGER NOT NULL DEFAULT 0;"
                                 "ALTER TABLE pushes ADD COLUMN delta_failed INTEGER NOT NULL DEFAULT 0;"
                                 "ALTER TABLE pushes ADD COLUMN delta_text TEXT;";

/* What the last check of a VM's files found (drift.h). vms.changes counts what makes its result outdated. */
static const char version_12[] =
        "ALTER TABLE vms ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;"
        "CREATE TRIGGER vms_change AFTER UPDATE OF final ON pushes"
        " WHEN new.final <> 0 AND old.final = 0 AND new.state NOT IN ('skipped', 'cancelled')"
        " AND json_extract(new.options, '$.dry_run') = 0"
        " BEGIN UPDATE vms SET changes = changes + 1 WHERE name = new.vm; END;"
        "CREATE TABLE vm_drift ("
        " vm TEXT PRIMARY KEY REFERENCES vms ON DELETE CASCADE, checked INTEGER NOT NULL,"
        " as_of INTEGER NOT NULL, release TEXT, files INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/* Restore points (docs/snapshots.md). What they are made of stays when their VM is removed: no reference. */
static const char version_13[] =
        "CREATE TABLE snapshots ("
        " id TEXT PRIMARY KEY, vm TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,"
        " created INTEGER NOT NULL, taken INTEGER NOT NULL, running INTEGER NOT NULL, grade TEXT NOT NULL,"
        " why TEXT, frozen INTEGER NOT NULL, hooks INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE INDEX snapshots_vm ON snapshots (vm, id);"
        "CREATE TABLE snapshot_disks ("
        " snapshot TEXT NOT NULL REFERENCES snapshots ON DELETE CASCADE, number INTEGER NOT NULL,"
        " device TEXT NOT NULL, path TEXT NOT NULL, layer TEXT NOT NULL, next TEXT NOT NULL,"
        " format TEXT NOT NULL, size INTEGER NOT NULL, is_first INTEGER NOT NULL,"
        " PRIMARY KEY (snapshot, number)) STRICT, WITHOUT ROWID;";

/* What restore points are made of (layers.h), and the merges of two of them into one file (merges.h). */
static const char version_14[] =
        "ALTER TABLE snapshots ADD COLUMN uploaded INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE snapshot_disks ADD COLUMN next_on TEXT;"
        "CREATE TABLE layers ("
        " id TEXT PRIMARY KEY, vm TEXT, disk INTEGER NOT NULL, parent TEXT, file TEXT, file_on TEXT,"
        " format TEXT NOT NULL, size INTEGER NOT NULL, sealed INTEGER NOT NULL, uploaded INTEGER NOT NULL,"
        " stored INTEGER NOT NULL, map BLOB, folded_into TEXT, below TEXT, identity TEXT) STRICT, WITHOUT "
        "ROWID;"
        "CREATE INDEX layers_vm ON layers (vm, sealed);"
        "CREATE INDEX layers_file ON layers (file);"
        "CREATE TABLE merges ("
        " id TEXT PRIMARY KEY, vm TEXT NOT NULL, device TEXT NOT NULL, path TEXT NOT NULL, top TEXT NOT NULL,"
        " upper TEXT NOT NULL, upper_file TEXT NOT NULL, lower TEXT NOT NULL, lower_file TEXT NOT NULL,"
        " file TEXT NOT NULL, below TEXT, below_format TEXT, state TEXT NOT NULL, created INTEGER NOT NULL)"
        " STRICT, WITHOUT ROWID;";

/* Restore points that were removed, of which the store may still have manifests (removals.h). */
static const char version_15[] = "CREATE TABLE removals ("
                                 " snapshot TEXT PRIMARY KEY, vm TEXT NOT NULL) STRICT, WITHOUT ROWID;";

/* Snapshots that are taken by themselves (schedules.h). */
static const char version_16[] =
        "CREATE TABLE schedules ("
        " vm TEXT PRIMARY KEY REFERENCES vms ON DELETE CASCADE, every INTEGER NOT NULL,"
        " at_minute INTEGER NOT NULL, options TEXT NOT NULL, since INTEGER NOT NULL, next INTEGER NOT NULL,"
        " operation TEXT, last INTEGER NOT NULL, last_ok INTEGER NOT NULL, last_text TEXT,"
        " failures INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

const char *const catalogue_migrations[] = {
        version_1, version_2,  version_3,  version_4,  version_5,  version_6,  version_7,  version_8,
        version_9, version_10, version_11, version_12, version_13, version_14, version_15, version_16};
const int catalogue_migration_count = G_N_ELEMENTS(catalogue_migrations);
