/* host-service/store/share_survey.h - what lies in the shared store, and what of it is needed: the first half
 * of verifying it and of collecting its garbage. Private to the jobs of the shared store.
 *
 * Three kinds of objects name others: releases and layers name chunks, snapshots name layers. What is named
 * is listed before what names it, and that is read last: a list that is put meanwhile, after what it names,
 * may be missing in the survey, but none is in it whose objects the survey was too early for to be told apart
 * from missing ones (who finds one missing asks for it again). */
#pragma once

#include "host-service/layers/snapshot_manifest.h"
#include "host-service/store/share_task.h"

/* Of chunks: a release's, or the map of a layer. */
struct survey_list {
        char *key, *name;             /* "releases/app/1.caibx", "app 1"; "layers/ID.layer", "layer ID" */
        GArray *refs;                 /* of struct chunk_ref; NULL: it is none, or went meanwhile */
        char *why;                    /* it is no list of chunks: what is wrong; or NULL */
        char *layer;                  /* the layer's id, or NULL */
        uint8_t digest[DIGEST_SIZE];  /* of a layer: its map's */
        const struct object_entry *o; /* of a layer */
        gboolean named;               /* of a layer: a snapshot names it */
};

struct survey_snapshot {
        char *key, *name; /* "snapshots/web-1/ID.json", "web-1 nightly"; web-1 ID, if that is not known */
        SnapshotManifest *manifest; /* NULL: it is none, or went meanwhile */
        char *why;                  /* it is none: what is wrong; or NULL */
};

struct survey_task {
        struct share_task task;
        GPtrArray *objects;   /* of struct object_entry: everything below chunks/ */
        GPtrArray *entries;   /* of struct object_entry: everything below layers/ and snapshots/ */
        GPtrArray *lists;     /* of struct survey_list: releases, then layers; each by key */
        GPtrArray *snapshots; /* of struct survey_snapshot, by key */
        guint releases;       /* so many of the lists are releases */
        GHashTable *layers;   /* id -> struct survey_list */
        transfer_done_func next;
};

void share_survey_clear(struct survey_task *t);
/* @next from the loop, with the task; after an error the survey is not complete. */
void share_survey_begin(struct survey_task *t, transfer_done_func next);
