/* guest-agent/upgrade/commit_walk.h - where the steps of a durable plan find their objects: areas,
 * directories, and the two places of each step.
 *
 * An area is looked at before anything in it: its topmost directory must be the one of the plan, or else a
 * mount that is missing would pass for a tree that somebody has changed. */
#pragma once

#include <limits.h>

#include "guest-agent/upgrade/classify.h"
#include "guest-agent/upgrade/commit.h"

/* In place of a descriptor. */
#define WALK_ERROR (-1)
#define WALK_GONE  (-2) /* went with a memory file system, or is not the planned directory: it is noted */

/* Open descriptors of one walk over the steps. */
struct commit_walk {
        const struct commit_context *c;
        GString *notes;
        int *tops;     /* topmost directory of each area; -1: not opened yet, WALK_GONE */
        int *areas;    /* AREA/.moult/N; as above */
        int parent_fd; /* of directory parent; -1 */
        gint64 parent;
};

/* Both places of one step. */
struct commit_places {
        int live_fd, staged_fd;
        char live_name[NAME_MAX + 1], staged_name[16];
        struct object_facts live, staged;
};

void commit_walk_begin(struct commit_walk *w, const struct commit_context *c, GString *notes);
void commit_walk_end(struct commit_walk *w);
/* A line about the step for who reads the report. */
void commit_walk_note(struct commit_walk *w, const Moult__Record__Step *s, const char *text);

/* The topmost directory of the area. WALK_ERROR: MOULT_ERROR_NOT_FOUND if the planned file system is not
 * there. */
int commit_walk_top(struct commit_walk *w, guint32 area, GError **error);
/* AREA/.moult/N. WALK_ERROR: NOT_FOUND as above, CORRUPT if it is the planned file system and somebody has
 * removed it. */
int commit_walk_area(struct commit_walk *w, guint32 area, GError **error);
/* The directory if it still is the planned one. */
int commit_walk_directory(struct commit_walk *w, guint32 directory, GError **error);
/* 1: found; 0: not reachable, noted; -1: error. */
int commit_walk_places(struct commit_walk *w, const Moult__Record__Step *s, struct commit_places *ret,
                       GError **error);

/* True if it is the object that the plan knows by this name. */
gboolean commit_is_new(const struct commit_walk *w, const Moult__Record__Step *s,
                       const struct object_facts *f);
gboolean commit_is_old(const struct commit_walk *w, const Moult__Record__Step *s,
                       const struct object_facts *f);
gboolean commit_area_is_overlay(const Moult__Record__Plan *plan, guint32 area);
gboolean commit_area_has_steps(const Moult__Record__Plan *plan, guint32 area);
/* Something is switched or changed in it. */
gboolean commit_area_is_used(const Moult__Record__Plan *plan, guint32 area);
char *commit_binary_text(ProtobufCBinaryData b);
