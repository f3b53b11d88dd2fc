/* host-service/store/share_survey.h - what lies in the shared store, and what of it is needed: the first half
 * of verifying it and of collecting its garbage. Private to the jobs of the shared store.
 *
 * The chunks are listed first, then the releases, and these are read: a release that is put meanwhile, after
 * its chunks, may be missing in the survey, but none is in it whose chunks the list was too early for to be
 * told apart from missing ones (who finds one missing asks for it again). */
#pragma once

#include "host-service/store/share_task.h"

struct survey_release {
        char *key, *name; /* "releases/app/1.caibx", "app 1" */
        GArray *refs;     /* of struct chunk_ref; NULL: it is none, or went meanwhile */
        char *why;        /* it is no list of chunks: what is wrong; or NULL */
};

struct survey_task {
        struct share_task task;
        GPtrArray *objects;  /* of struct object_entry: everything below chunks/ */
        GPtrArray *releases; /* of struct survey_release */
        transfer_done_func next;
};

void share_survey_clear(struct survey_task *t);
/* @next from the loop, with the task; after an error the survey is not complete. */
void share_survey_begin(struct survey_task *t, transfer_done_func next);
