/* host-service/env.h - everything outside of the process that the host service touches, as operations tables.
 *
 * Theory of operation: moultd's logic is one event loop. If clock, randomness, channels, disk, store and
 * worker threads are handed in, the whole service can run in a deterministic simulation: the same seed gives
 * the same history, byte by byte. So nothing in host-service/ but env_real.c and main.c calls time(),
 * getrandom(), g_timeout_add(), socket(), open() on the state directory, or starts a thread. Each table has a
 * `self`.
 */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

#include "host-service/object_store.h"
#include "proto/session.h"
#include "proto/transport.h"
#include "proto/transport_tls.h"
#include "shm/pack_source.h"

struct host_clock_ops {
        gint64 (*wall_us)(gpointer self);      /* since 1970; may jump */
        gint64 (*monotonic_us)(gpointer self); /* never goes back */
        /* A source, not attached, that becomes ready @delay_ms from now and then every @delay_ms. */
        GSource *(*timer_new)(gpointer self, guint delay_ms);
};

struct host_random_ops {
        void (*fill)(gpointer self, void *buf, gsize len);
};

/* @transport is the callee's on success; NULL with @error else (NOT_FOUND: nothing at that path; IO;
 * CANCELLED). */
typedef void (*host_connected_func)(Transport *transport, const GError *error, gpointer user);
/* A new TLS connection, not started; its handshake has yet to happen. @transport is the callee's. */
typedef void (*host_accepted_func)(Transport *transport, gpointer user);
typedef struct HostListener HostListener;

struct host_channel_ops {
        /* Connects to a Unix socket; @done runs exactly once, from the loop, never from inside the call.
         * @name is the transport's name ("virtio-serial", "qmp"); @path must be absolute. */
        void (*connect_unix)(gpointer self, const char *name, const char *path, GCancellable *cancellable,
                             host_connected_func done, gpointer user);
        /* Listens on "ADDRESS:PORT" ("[v6]:PORT"). @id must outlive the listener. */
        HostListener *(*listen_tls)(gpointer self, const char *endpoint, const TlsIdentity *id,
                                    tls_accept_func accept, host_accepted_func accepted, gpointer user,
                                    GError **error);
        void (*listener_free)(gpointer self, HostListener *listener);
};

struct host_disk_usage {
        guint64 size_bytes, free_bytes; /* free: for a process without privileges */
};

/* Small files of the state directory, by plain names. */
struct host_disk_ops {
        GBytes *(*read_file)(gpointer self, const char *name, gsize max_bytes, GError **error);
        /* Old or new content, also after a power cut. */
        gboolean (*write_file)(gpointer self, const char *name, const void *data, gsize len, mode_t mode,
                               GError **error);
        gboolean (*remove)(gpointer self, const char *name, GError **error);
        /* Of the file system below. May be NULL: not known. */
        gboolean (*usage)(gpointer self, struct host_disk_usage *ret, GError **error);
};

/* The pack store. A sealed pack never changes nor shrinks: a guest's read of a truncated backing file kills
 * its QEMU. Calls block: worker threads only, but for path(). Names match [A-Za-z0-9][A-Za-z0-9+.:~_-]*. */
struct host_store_ops {
        /* A new file, open for writing (mode 0600), that only this process knows: removed by store cleaning
         * (release/pack_store.h) if it is still there at the next start. Owned descriptor or -1. */
        int (*create)(gpointer self, const char *temp_name, GError **error);
        /* fsync, mode 0444, rename to @name, fsync of the directory, then the immutable attribute where the
         * file system has it. An existing @name is an error (BUSY). */
        gboolean (*seal)(gpointer self, const char *temp_name, int fd, const char *name, GError **error);
        int (*open)(gpointer self, const char *name, GError **error);        /* O_RDONLY */
        gboolean (*remove)(gpointer self, const char *name, GError **error); /* missing: success */
        GStrv (*list)(gpointer self, GError **error);
        /* What QEMU is told as mem-path. Newly allocated. */
        char *(*path)(gpointer self, const char *name);
};

typedef gpointer (*host_work_func)(gpointer data, GCancellable *cancellable, GError **error);
typedef void (*host_work_done)(gpointer result, GError *error, gpointer user);
struct host_worker_ops {
        /* Runs @work in a worker thread; @done runs exactly once from the loop, also when cancelled. @error
         * is the caller's: valid during @done. @data must live until then. */
        void (*run)(gpointer self, host_work_func work, gpointer data, GCancellable *cancellable,
                    host_work_done done, gpointer user);
};

/* One domain of a libvirt, watched. All domains of one URI share a connection, which is made when there is
 * the first of them, and made again with back-off whenever it breaks. */
typedef struct VirtDomain VirtDomain;

typedef enum {
        VIRT_CONNECTED, /* (again) connected: what was missed meanwhile must be asked for */
        VIRT_LOST,      /* the connection broke; @detail says why */
        VIRT_STARTED,   /* the domain runs (also: came here by a migration) */
        VIRT_STOPPED,   /* it does not run here any more; @detail says why ("destroyed", "migrated", ...) */
        VIRT_DEFINED,   /* libvirt keeps it, or another definition of it, when it does not run */
        VIRT_UNDEFINED, /* and does not any more */
        VIRT_MONITOR,   /* an event of its QEMU: @detail is the name, @data its data as JSON or NULL */
} VirtEvent;
typedef void (*virt_event_func)(VirtEvent event, const char *detail, const char *data, gpointer user);
/* @reply: one JSON text, QEMU's answer (which may be an error of QEMU's), valid during the call. */
typedef void (*virt_reply_func)(const char *reply, const GError *error, gpointer user);

/* What is asked of libvirt itself about a domain and its disks, which it knows by their targets ("vda").
 * Arguments and answers are JSON objects. */
typedef enum {
        /* -> {"live": {TARGET: FILE}, "copies": {TARGET: {"to": FILE, "ready": BOOLEAN}}, "defined": {TARGET:
         * FILE}, "saved": BOOLEAN}: the files of the domain as it runs, and those to which disks are being
         * copied (both absent if it does not), those that it is started from (absent if libvirt does not keep
         * it), and whether its next start goes on from a managed save. */
        VIRT_DISKS_ASK,
        /* {TARGET: {"to": FILE, "format": FORMAT, "from": [FILE, ...]}}: it is started from these files, what
         * they stand on as their headers say. All at once, or nothing: REFUSED if one is now neither `to` nor
         * one of `from`, or libvirt keeps no definition. */
        VIRT_DISKS_DEFINE,
        /* {TARGET: FILE}: what the running domain writes goes to these images, which are there, empty, over
         * what it has; all at one instant. libvirt keeps no record of it but in the domain's live XML. */
        VIRT_DISKS_SWITCH,
        /* {"target": TARGET, "to": FILE, "below": [{"file": FILE, "format": FORMAT}, ...]}: what the top of
         * the running domain's disk has is copied to this image, which is there, empty, over these; and what
         * is written from now on goes to both. The definition stays as it is. */
        VIRT_DISKS_COPY,
        /* As VIRT_DISKS_ASK; but as long as a copy is not ready, and nothing becomes of it, the answer waits,
         * for a second at most. */
        VIRT_DISKS_AWAIT,
        /* {"target": TARGET, "to": FILE}: the copy takes the disk's place, for QEMU, in the live XML, and in
         * the definition. REFUSED: there is no such copy, or it is not ready. */
        VIRT_DISKS_PIVOT,
        /* The same arguments: the copy ends, and the disk stays as it is. There is none: success. */
        VIRT_DISKS_DROP,
        /* The domain's processors stand, and what QEMU has of its disks is written; or go on. */
        VIRT_STOP,
        VIRT_GO_ON,
} VirtDisks;

struct host_virt_ops {
        /* @domain: name or UUID; need not exist. Events come from the loop, never from inside a call. */
        VirtDomain *(*domain_new)(gpointer self, const char *uri, const char *domain, virt_event_func event,
                                  gpointer user);
        /* Replies that are still to come do not come any more; channels do (cancel them). */
        void (*domain_free)(VirtDomain *d);
        /* One QMP command as JSON. Waits for the connection if there is none now. @done runs exactly once:
         * NOT_FOUND: the domain does not run, or is not known; TIMEOUT: it was not begun within that time
         * and will not be, or QEMU has not answered yet; IO: the connection broke meanwhile: it may have been
         * done. */
        void (*monitor)(VirtDomain *d, const char *command, guint timeout_ms, virt_reply_func done,
                        gpointer user);
        /* As monitor(). @arguments: JSON, or NULL. An error does not tell whether a VIRT_DISKS_SWITCH,
         * or a VIRT_DISKS_PIVOT, has happened. */
        void (*disks)(VirtDomain *d, VirtDisks what, const char *arguments, guint timeout_ms,
                      virt_reply_func done, gpointer user);
        /* The host's end of the virtio port @channel. Exactly once, like connect_unix(). */
        void (*open_channel)(VirtDomain *d, const char *channel, GCancellable *cancellable,
                             host_connected_func done, gpointer user);
};

struct host_env {
        gpointer self;
        GMainContext *context; /* the loop's */
        const struct host_clock_ops *clock;
        const struct host_random_ops *random;
        const struct host_channel_ops *channel;
        const struct host_disk_ops *disk;
        const struct host_store_ops *store;
        const struct host_worker_ops *worker;
        const struct session_environment *session; /* of guests' sessions, with `self`; NULL: the real one */
        const struct host_virt_ops *virt;          /* NULL: built without libvirt */
        ObjectStore *objects;                      /* the shared store; owned by main; NULL: none */
        const char *disk_helper;                   /* the socket of moult-disks; NULL: none */
        const char *catalogue_path;                /* for sqlite3_open_v2 */
        const char *sqlite_vfs;                    /* NULL: the default one */
};

static inline gint64 host_wall_us(const struct host_env *e)
{
        return e->clock->wall_us(e->self);
}
static inline gint64 host_monotonic_us(const struct host_env *e)
{
        return e->clock->monotonic_us(e->self);
}
static inline void host_random_fill(const struct host_env *e, void *buf, gsize len)
{
        e->random->fill(e->self, buf, len);
}

/* A timer on the loop; @func returns G_SOURCE_CONTINUE to be called again. The caller owns the source and
 * ends it with host_timer_clear(). */
GSource *host_timer_add(const struct host_env *e, guint delay_ms, GSourceFunc func, gpointer user);
void host_timer_clear(GSource **timer); /* NULL inside is fine */

/* host-service/env_real.c: the real world below @state_dir (created 0711 if missing; packs in
 * STATE_DIR/packs, 0755: another user's QEMU reads them). The state directory is locked: BUSY if another
 * moultd has it. */
struct host_env *host_env_real_new(const char *state_dir, GError **error);
/* Whether sealed packs also get the immutable attribute, where the file system has it. Off at first. */
void host_env_real_set_immutable(struct host_env *e, gboolean on);
void host_env_real_free(struct host_env *e);
