/* guest-agent/upgrade/survey.h - what the files that survey the live tree share; plan.h is what others see.
 */
#pragma once

#include "guest-agent/upgrade/plan.h"
#include "guest-agent/upgrade/plan_places.h"

#define SURVEY_WINDOW 1024u /* entries whose content is looked at in one go */

/* A live file whose content must be known. */
struct inspection {
        guint32 entry;
        struct object_facts object;
        char *metadata;
        struct content_facts content;
        GError *error;
};

struct survey {
        Plan *plan;
        const struct plan_request *request;
        PlanPlaces *places;
        GHashTable *swaps;
        GHashTable *names;  /* "DIRECTORY/NAME" -> entry + 1: two entries for one object */
        GHashTable *inodes; /* "DEV:INODE" of files with several names -> entry + 1 */
        GArray *window;     /* struct inspection */
        GCancellable *cancellable;
};

/* --- survey_conclude.c --- */

const char *survey_last_component(const char *path);
/* Takes over @reason. */
void survey_set_reason(struct plan_entry *pe, char *reason);
void survey_block(struct plan_entry *pe, char *reason);
PlanHow survey_how_of(const struct decision *d, const struct object_facts *o, gboolean is_delete);
/* Puts a decision into the plan: drift policy, then whether the place can be written. Takes over d.reason. */
void survey_conclude(struct survey *s, guint32 index, const struct object_facts *o, struct decision d,
                     PlanHow how);

/* --- survey_content.c --- */

void survey_inspection_clear(gpointer p);
/* The few whose content must be known at once. */
gboolean survey_inspect_now(struct survey *s, guint32 index, const struct object_facts *o,
                            struct content_facts *ret, GError **error);
/* Hashes what is in the window, and decides these entries. */
gboolean survey_window_flush(struct survey *s, GError **error);

/* --- survey_directories.c --- */

/* A directory entry. */
gboolean survey_directory(struct survey *s, guint32 index, int parent_fd, const struct object_facts *o,
                          GError **error);
/* A live directory is in the way of another entry, or is to be deleted. */
gboolean survey_directory_goes(struct survey *s, guint32 index, int parent_fd, const struct object_facts *o,
                               GError **error);
