/* guest-agent/freeze_state.h - what the agent keeps of a freeze, in memory and in DIRECTORY/freeze.state, and
 * how it is told. */
#pragma once

#include "guest-agent/freeze_record.h"
#include "proto/message.h"

struct freeze_state {
        guint8 id[FREEZE_ID_SIZE];
        gboolean no_hooks;
        Moult__FreezePhase phase;
        MoultError error;
        char *text;
        gboolean held;
        guint mounts, hooks_run;
        char *hook, *hook_output;
        GPtrArray *begun; /* names of pre-freeze hooks, with a NULL at the end */
        guint64 frozen_us;
        gint64 told_us;       /* monotonic: when the holder told it so */
        gint64 lease_ends_us; /* monotonic; 0: no lease runs */
};

struct freeze_state *freeze_state_new(const guint8 id[static FREEZE_ID_SIZE]);
void freeze_state_free(struct freeze_state *s);
typedef struct freeze_state FreezeState;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FreezeState, freeze_state_free)

void freeze_state_add_begun(struct freeze_state *s, const char *hook);
/* Takes over what is not NULL. */
void freeze_state_fail(struct freeze_state *s, GError *why, char *hook, char *output);

/* To the file and from it. NULL without @error: there is none. */
gboolean freeze_state_save(const struct freeze_state *s, const char *directory, GError **error);
struct freeze_state *freeze_state_load(const char *directory);

/* What the holder says, put into @s; its end included, but for the phase, since hooks come after it.
 * @record: names of mounts; may be NULL. Never changes an error that is there. */
void freeze_state_take(struct freeze_state *s, const struct freeze_report *r,
                       const struct freeze_record *record);
/* @call gets the message; its parts live during the call. @s NULL: phase NONE, with @id if it is not empty.
 */
void freeze_state_tell(const struct freeze_state *s, ProtobufCBinaryData id,
                       void (*call)(Moult__FreezeState *message, gpointer user), gpointer user);
