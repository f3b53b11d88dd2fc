/* guest-agent/own_program.h - the program that this process runs: whether its path leads to another one by
 * now, whether that one is fit, and becoming it.
 *
 * docs/upgrade-transaction.md, "A release that brings a new agent". Known are the path and the object of
 * /proc/self/exe at the start. If they do not belong together even then (a container's view, a deleted file),
 * there is nothing to know, and nothing is ever executed: that also keeps two programs from becoming each
 * other for ever. */
#pragma once

#include <glib.h>
#include <sys/stat.h>

typedef struct OwnProgram OwnProgram;

/* @argv: what `moult-agent run` was called with; its options are those of the next program, too (copied). */
OwnProgram *own_program_new(int argc, char **argv);
void own_program_free(OwnProgram *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OwnProgram, own_program_free)

/* FALSE: it is not known. */
gboolean own_program_object(const OwnProgram *p, dev_t *ret_dev, ino_t *ret_inode);
/* There is another object at its path now. */
gboolean own_program_is_replaced(const OwnProgram *p);
/* Runs the program behind @fd as `moult-agent try` and waits for its verdict (up to a minute). @with_host: it
 * has to say hello to the host, so its links must be free. FALSE: it is not fit, and why. Any thread. */
gboolean own_program_try(const OwnProgram *p, int fd, gboolean with_host, GError **error);
/* This process becomes the program at its path. Returns only on an error. */
void own_program_execute(const OwnProgram *p, GError **error);

/* NULL if the kernel of this machine may run a file that begins so; else what it is. Pure. */
char *own_program_misfit(const guint8 *head, gsize len);

/* What a program that is fit prints at the end of `moult-agent try`. */
#define OWN_PROGRAM_GOOD "tried: this agent starts here"
