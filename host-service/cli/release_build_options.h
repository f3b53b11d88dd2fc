/* host-service/cli/release_build_options.h - the command lines of `moult release build` and `capture` as one
 * struct. */
#pragma once

#include "host-service/cli/command.h"
#include "host-service/release/build.h"

typedef struct {
        struct release_build_options build; /* points into what follows */
        gboolean listing;
        /* storage */
        char *old_dir, *output, *name, *version, *description, *compress, *delivery, *floor, *owner_map,
                *jobs;
        char *per_vm_file, *delta_level;
        char **sign, **hooks_text, **restart, **require, **allow_per_vm, **exclude, **exclude_xattr;
        char **from, **to, **include; /* capture */
        char **delta_from;
        gboolean mtime, no_trees, no_deltas, force, checksum;
        PerVmList *per_vm;
        GPtrArray *keys; /* SigningKey */
        GArray *hooks, *requirements;
} BuildCommandLine;

/* FALSE: help was printed, or @error is set. The command line is cleared by the caller in any case. @capture:
 * that of `moult release capture`, which has --from and --to in the place of DIR; build.new_dir and old_dir
 * are left to the caller then. */
bool build_command_line_parse(const struct command *self, Cli *cli, int argc, char **argv, bool capture,
                              BuildCommandLine *ret, GError **error);
void build_command_line_clear(BuildCommandLine *o);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(BuildCommandLine, build_command_line_clear)

/* "pre=FILE,timeout=10s,name=NAME". Reads nothing. @ret is owned by the caller, set only on success. */
gboolean build_hook_parse(const char *text, struct release_hook *ret, GError **error);
