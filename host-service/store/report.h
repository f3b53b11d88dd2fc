/* host-service/store/report.h - what a look at the store has found: one finding for each thing that is not as
 * it should be, with what it affects and what to do. docs/store.md has the kinds. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/catalogue/release_users.h"

typedef enum {
        FINDING_PACK_MISSING,      /* a release without its file */
        FINDING_PACK_DAMAGED,      /* bytes that do not have their digest, or cannot be read */
        FINDING_PACK_UNTRUSTED,    /* whole, but no key of the trust directory vouches for it */
        FINDING_PACK_OPEN,         /* whole, but it can be written: not sealed */
        FINDING_CATALOGUE_DIFFERS, /* whole, but the row says something else */
        FINDING_CATALOGUE_DAMAGED, /* SQLite's own check fails */
        FINDING_LIST_DAMAGED,      /* of the shared store: a release's list of chunks is none */
        FINDING_CHUNK_MISSING,     /* likewise: a chunk that a release names is not there */
        FINDING_CHUNK_DAMAGED,     /* or does not have the bytes that its name says */
        FINDING_LAYER_MISSING,     /* likewise: a layer that a snapshot names is not there */
        FINDING_LAYER_DAMAGED,     /* or is no map, or another one than the snapshot names */
        FINDING_SNAPSHOT_DAMAGED,  /* likewise: a snapshot's manifest is none */
        FINDING_MANIFEST_MISSING,  /* of a restore point that the store should have */
        FINDING_FILE_MISSING,      /* of a layer, here */
        FINDING_FILE_DAMAGED,      /* not whole inside, cannot be read, or in somebody's use */
        FINDING_FILE_DIFFERS,      /* stands on another file than the catalogue says */
        FINDING_BASE_CHANGED,      /* what restore points stand on is not what it was */
        FINDING_STATE_DIFFERS,     /* the store and the files here disagree about a restore point */
        FINDING_SNAPSHOT_LOST,     /* it is neither in the store nor in files here */
        FINDING_LEFT_OVER,         /* a file that belongs to nothing */
        FINDING_MAX
} FindingKind;
const char *finding_name(FindingKind k); /* "pack-missing" */
/* Not damage: nothing is lost, and the next start or `moult store gc` cleans it. */
gboolean finding_is_harmless(FindingKind k);

typedef struct finding {
        FindingKind kind;
        char *file;           /* name in the store (of the shared one: the key), or NULL */
        gint64 release;       /* ReleaseRecord.id; 0: none */
        char *name, *version; /* of that release, or NULL */
        char *text;           /* what was found, for people */
        guint64 size;         /* bytes of a left-over file */
} Finding;
void finding_free(Finding *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Finding, finding_free)
/* @r and @file may be NULL; @text is copied. */
Finding *finding_new(FindingKind kind, const ReleaseRecord *r, const char *file, const char *text);

/* {"kind", "harmless", "file", "release", "version", "text", "vms": [{"vm", "use"}], "action"}. @users: of
 * catalogue_release_users(); NULL: none. */
JsonObject *finding_to_json(const Finding *f, const GPtrArray *users);
/* What a list of findings comes to: NULL if there is nothing but harmless ones, else an error (CORRUPT; or
 * UNTRUSTED, if there is nothing worse) that says how many of what. */
GError *findings_error(const GPtrArray *findings);
/* Logs each that is damage as "store-damaged". */
void findings_tell(const GPtrArray *findings);
