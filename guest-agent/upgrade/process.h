/* guest-agent/upgrade/process.h - runs one child with a time limit, its output bounded, and leaves nothing of
 * it behind. */
#pragma once

#include <gio/gio.h>

struct process_request {
        const char *const *argv;        /* searched in our PATH */
        const char *const *environment; /* exactly this; cwd is "/", stdin null */
        int script_fd;                  /* >= 0: descriptor 3 of the child */
        /* Not NULL: the child has this tree for its root, with /proc and /dev in it, which go with it. */
        const char *root;
        guint timeout_ms;
        /* It starts daemons in the way of an init script: if it succeeds, what it left running is left alone,
         * and may go on to hold its output. */
        gboolean leaves_daemons;
        guint kill_within_ms; /* how long a killed child may need to be gone; 0: 10 s */
};

struct process_result {
        gboolean timed_out;
        gboolean unkillable; /* it was killed and is still there: in the kernel, waiting for a device */
        int exit_status;     /* of exit(), or -1 */
        int signal;          /* that killed it, or 0 */
        char *output;        /* the last LIMIT_HOOK_OUTPUT bytes of stdout and stderr, as valid UTF-8 */
};
void process_result_clear(struct process_result *r);

/* When the child ends, after its time, or when we die, all that it started is killed: its cgroup where we can
 * make one (fence.h), its process group everywhere. FALSE only if it could not be started. */
gboolean process_run(const struct process_request *request, struct process_result *ret, GError **error);

/* "exit status 3", "killed by signal 9", "no end after 30 s". The caller frees. NULL for success. */
char *process_failure(const struct process_result *r, guint timeout_ms);
