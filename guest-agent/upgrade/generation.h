/* guest-agent/upgrade/generation.h - STATE_DIR/generations/N: what is kept of one transaction. */
#pragma once

#include <gio/gio.h>

#include "fuse-overlay/target.h"
#include "guest-agent/upgrade/journal.h"
#include "guest-agent/upgrade/record.pb-c.h"
#include "shm/pack_reader.h"

typedef struct {
        guint64 number;
        int dirfd;
        Journal *journal;
        Moult__Record__Offer *offer; /* NULL if it was never written whole */
} Generation;

/* Creates generations/@number, durably: the journal must be found. */
Generation *generation_create(int state_fd, guint64 number, GError **error);
Generation *generation_open(int state_fd, guint64 number, GError **error);
void generation_free(Generation *g);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Generation, generation_free)

/* Numbers that exist, ascending (array of guint64). */
GArray *generation_list(int state_fd, GError **error);

/* Takes over @offer. */
gboolean generation_save_offer(Generation *g, Moult__Record__Offer *offer, GError **error);
gboolean generation_save_plan(Generation *g, const Moult__Record__Plan *plan, GError **error);
/* NULL without @error if there is none (it is removed once nothing of it is left outside the state
 * directory). */
Moult__Record__Plan *generation_load_plan(Generation *g, GError **error);
gboolean generation_remove_plan(Generation *g, GError **error);

/* Header, list and signature. Synced together with the rest by generation_sync(). */
gboolean generation_keep_pack(Generation *g, PackReader *pack, GError **error);
/* The target as of this generation; durable when it returns. */
gboolean generation_save_target(Generation *g, const Target *t, GError **error);
/* NULL without @error if there is none: nothing is merged. */
Target *generation_load_target(Generation *g, GError **error);
/* The kept list. It was verified when it came; its digest is compared with the header again. */
Manifest *generation_load_manifest(Generation *g, GError **error);
/* Everything in the state directory's file system is on the disk afterwards. */
gboolean generation_sync(Generation *g, GError **error);

gboolean generation_is_push(const Generation *g, const guint8 push_id[static 16]);
