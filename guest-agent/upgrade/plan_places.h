/* guest-agent/upgrade/plan_places.h - which directory, and which staging area, each entry's name lies in.
 *
 * An area is the topmost directory below the root that one rename() can reach from a place: the walk up stops
 * where the mount or (btrfs subvolumes) the device changes. Paths are physical: what the kernel says after
 * following links. */
#pragma once

#include "guest-agent/upgrade/plan.h"

typedef struct PlanPlaces PlanPlaces;

/* Fills @plan's directories and areas as they are met. */
PlanPlaces *plan_places_new(Plan *plan, const struct plan_request *request, GError **error);
void plan_places_free(PlanPlaces *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PlanPlaces, plan_places_free)

typedef enum {
        PARENT_PRESENT, /* directory: index into the plan's directories */
        PARENT_CREATED, /* comes with carrier */
        PARENT_REMOVED, /* goes with carrier */
        PARENT_MISSING,
        PARENT_NOT_DIRECTORY,
} ParentKind;
struct parent {
        ParentKind kind;
        gint32 directory, carrier;
        const char *refusal; /* why nothing may be changed by this way; NULL. Lives as long as the places */
};

/* Where @path's last component lies. */
gboolean plan_places_parent(PlanPlaces *p, const char *path, struct parent *ret, GError **error);
/* From now on @path is (or was) a directory that is created or removed as a whole with @carrier. */
void plan_places_set(PlanPlaces *p, const char *path, ParentKind kind, gint32 carrier);
/* Index of the open directory @fd. -1 with @error. */
gint32 plan_places_directory(PlanPlaces *p, int fd, GError **error);
/* O_PATH descriptor of the directory; owned by @p, valid until the next call of any of these. -1 with @error.
 */
int plan_places_open(PlanPlaces *p, gint32 directory, GError **error);

/* Facts for classify_refusal(). */
struct place_facts plan_places_facts(PlanPlaces *p, gint32 directory);
const struct mount *plan_places_mount(PlanPlaces *p, guint64 mount_id);
gboolean plan_places_is_own_state(const PlanPlaces *p, gint32 directory, const char *name);
