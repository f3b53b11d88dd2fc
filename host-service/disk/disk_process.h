/* host-service/disk/disk_process.h - a qemu-nbd: started on a socket that only we have, its last words kept,
 * and none left behind.
 *
 * Theory of operation: a thread of its own starts the process, reads what it says on stderr, and reaps it.
 * The kernel kills the process when that thread ends before it (PR_SET_PDEATHSIG counts threads, not
 * processes), which happens only when all of us end: so none survives, and whoever uses the disk may change
 * threads.
 *
 * The socket is listened on and connected before the process is there, and handed over as systemd does
 * (LISTEN_FDS); its name is gone before anybody else could use it, unless others are to. */
#pragma once

#include <gio/gio.h>

typedef struct DiskProcess DiskProcess;

/* What the process has beside the socket, for the call. */
struct disk_process_files {
        const int *fds; /* under the same numbers, above 3 */
        guint n;
        int ruleset; /* of Landlock, which it is held to, likewise above 3; -1: none */
};

/* A Unix socket for one, listening, and a connection to it that waits; both are the caller's. @path:
 * absolute: its name, which stays, with mode 0660; who removes it is the caller. NULL: it has none. IO. */
gboolean disk_process_sockets(const char *path, int *ret_listening, int *ret_connected, GError **error);
/* Starts @argv (NULL-terminated; found in PATH), which accepts on @listening. @files: NULL: none. Errors:
 * UNSUPPORTED (there is no such program), IO. */
DiskProcess *disk_process_start(const char *const *argv, const struct disk_process_files *files,
                                int listening, GError **error);

/* One that somebody else has started, and keeps for us. */
struct disk_process_keeper {
        /* Waits for its end, in a thread of ours. Its last words, the caller's. */
        char *(*wait)(gpointer self, int *ret_status);
        void (*kill)(gpointer self); /* while the other waits */
        void (*free)(gpointer self);
};
/* @self is taken over. */
DiskProcess *disk_process_adopt(const struct disk_process_keeper *keeper, gpointer self, GError **error);
/* 0: it is adopted. */
GPid disk_process_pid(const DiskProcess *p);
/* SIGKILL, if it has not ended yet. */
void disk_process_kill(DiskProcess *p);
/* Waits for its end, at most so long. *ret_status as from waitpid(). */
gboolean disk_process_wait(DiskProcess *p, guint seconds, int *ret_status);
/* What it said last on stderr; "" for nothing. All of it only after its end. The caller frees. */
char *disk_process_last_words(DiskProcess *p);
/* Kills it, and waits some seconds for its end (one that hangs in the kernel is left to the thread). */
void disk_process_free(DiskProcess *p);
