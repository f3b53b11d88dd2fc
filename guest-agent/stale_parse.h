/* guest-agent/stale_parse.h - what the kernel's texts about a process say: pure.
 *
 * Names in them are the process's own choice (a path, a title): nothing here trusts more than the form. */
#pragma once

#include <glib.h>

/* A mapping of a file, as /proc/PID/maps has it. Points into the text. */
struct stale_mapping {
        const char *range; /* "0040000-0041000" */
        const char *name;  /* as the kernel writes it: a newline is \012, " (deleted)" may follow */
        gsize name_len;
};
/* The next one from *@at on; FALSE at the end. Anonymous ones, and lines that cannot be read, are passed
 * over. */
gboolean stale_mapping_next(const char **at, struct stale_mapping *ret);
/* "map_files/40000-41000", below /proc/PID: there, numbers have no zeros before them. The caller frees. */
char *stale_mapping_link(const struct stale_mapping *m);
/* The kernel's name as a path: newlines as they are. The caller frees. */
char *stale_mapping_name(const struct stale_mapping *m);

/* "AREA/.moult/N/E/REST": an object that generation N put aside, or took back. @ret_rest ("" or "/REST")
 * points into @name. */
gboolean stale_aside_parse(const char *name, guint64 *ret_generation, guint32 *ret_entry,
                           const char **ret_rest);
/* @name without " (deleted)", or NULL if it does not end so. */
char *stale_name_undeleted(const char *name);

/* The unit that a process belongs to by its /proc/PID/cgroup, as systemd names cgroups; NULL: none. */
char *stale_unit_of_cgroup(const char *text);
/* The same unit, by the names that people give it: "x" and "x.service" are one. */
gboolean stale_unit_is(const char *unit, const char *name);

/* From /proc/PID/stat. */
struct stale_stat {
        gint64 parent;
        gboolean kernel_thread;
        gboolean ended; /* a zombie */
};
gboolean stale_stat_parse(const char *text, struct stale_stat *ret);

/* What names a process for people, from its arguments (NUL after each): the program, and the script that it
 * runs. Not the rest, where secrets are. Empty arguments: NULL. At most LIMIT_STALE_COMMAND bytes. */
char *stale_command_of(const char *arguments, gsize len);
/* "mnt:[4026531840]" */
gboolean stale_namespace_parse(const char *link, guint64 *ret);
/* A pid file's number; 0: it holds none. */
gint64 stale_pid_file_parse(const char *text);
