/* guest-agent/facts.h - what of this guest decides how upgrades go here: looks, judges nothing, changes
 * nothing. The host judges (host-service/doctor).
 *
 * Whatever cannot be found out is left at "unknown": no look can fail as a whole. */
#pragma once

#include "common/mounts.h"
#include "guest-agent/config.h"
#include "proto/channel.pb-c.h"

/* Blocks. @phase: of the push in hand. Owned by the caller. */
Moult__Facts *facts_look(const struct agent_config *config, Moult__TransactionPhase phase);
void facts_free(Moult__Facts *f);

/* --- its parts --- */

/* Text becomes a field's, cut to @max bytes, and is freed. */
void facts_set(ProtobufCBinaryData *field, char *text, gsize max);

/* facts_places.c: the file systems below @root, and that of @state. */
void facts_look_places(Moult__Facts *f, const char *root, const char *state);

/* facts_kernel.c: what the kernel can, and what guards it. */
void facts_look_kernel(Moult__Facts *f, const struct agent_config *config);
/* Pure, of files' texts (NULL: cannot be read). @filesystems: /proc/filesystems; the others from
 * /lib/modules/RELEASE: modules.dep, modules.builtin. @may_load: the kernel takes modules. */
struct kernel_texts {
        const char *filesystems, *modules, *builtin;
        gboolean may_load;
};
Moult__Sight facts_sight_of_module(const struct kernel_texts *t, const char *module);
Moult__Sight facts_sight_of_filesystem(const struct kernel_texts *t, const char *type, const char *module);
/* "none [integrity] confidentiality" -> "integrity"; NULL if there is none in brackets. The caller frees.
 * Pure. */
char *facts_lockdown(const char *text);
