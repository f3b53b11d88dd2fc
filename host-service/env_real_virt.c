/* host-service/env_real_virt.c - the real libvirt: one connection per URI, its calls, its events.
 *
 * Theory of operation: libvirt's calls block, so each runs in a thread of its connection's own small pool; a
 * libvirt that hangs holds up its own domains only. Keep-alive ends a connection whose other side is silent.
 * Events come from the main loop, which libvirt-glib lends to libvirt. A host's state (CLOSED -> OPENING ->
 * OPEN
 * -> CLOSED) is the main thread's alone; a worker is given the connection with a reference of its own.
 * Whatever threads have to say is posted to the loop.
 *
 * Calls that come while there is no connection wait for it, each until its own time is over. */
#include <libvirt-glib/libvirt-glib-event.h>
#include <libvirt/virterror.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "host-service/env_real_virt_private.h"
#include "proto/transport_fd.h"

#define CALLS_AT_ONCE    4 /* libvirtd takes 5 of a client at once */
#define KEEPALIVE_S      5
#define KEEPALIVE_COUNT  3u
#define RETRY_FIRST_MS   500u
#define RETRY_LONGEST_MS 30000u

typedef enum { CALL_OPEN, CALL_CLOSE, CALL_MONITOR, CALL_DISKS, CALL_CHANNEL } CallKind;

typedef struct {
        CallKind kind;
        VirtHost *host;
        VirtDomain *domain; /* NULL: nobody asks any more */
        virConnectPtr conn;
        VirtDisks what;
        char *name, *text;  /* of the domain; command, arguments or channel */
        virConnectPtr dead; /* it broke during the call; compared, not used */
        gboolean begun;     /* given to a worker */
        gboolean told;      /* its time was over */
        GSource *timer;
        virt_reply_func replied;
        host_connected_func connected;
        GCancellable *cancel;
        gpointer user;
        /* results */
        char *reply;
        int fd;
        struct virt_event_ids ids;
        GError *error;
} Call;

/* Runs @func in the loop; from any thread. */
static void post(VirtHost *h, GSourceFunc func, gpointer data)
{
        GSource *s = g_idle_source_new();

        g_source_set_priority(s, G_PRIORITY_DEFAULT);
        g_source_set_callback(s, func, data, NULL);
        g_source_attach(s, h->context);
        g_source_unref(s);
}

/* --- calls, in worker threads */

static void on_closed(virConnectPtr conn, int reason, void *user);

static void do_open(Call *c)
{
        c->conn = virConnectOpen(c->host->uri);
        if (!c->conn) {
                c->error = virt_error("connecting");
                return;
        }
        virConnectSetKeepAlive(c->conn, KEEPALIVE_S, KEEPALIVE_COUNT); /* not every driver has it */
        if (!virt_events_begin(c->host, c->conn, &c->ids)) {
                c->error = virt_error("asking for the domains' events");
                return;
        }
        if (virConnectRegisterCloseCallback(c->conn, on_closed, virt_host_ref(c->host), virt_host_unref) < 0)
                virt_host_unref(c->host);
}

static void do_close(Call *c)
{
        virt_events_end(c->conn, &c->ids);
        virConnectUnregisterCloseCallback(c->conn, on_closed);
}

static gboolean on_call_done(gpointer user);

static void work(gpointer data, gpointer user)
{
        Call *c = data;

        switch (c->kind) {
        case CALL_OPEN:
                do_open(c);
                break;
        case CALL_CLOSE:
                do_close(c);
                break;
        case CALL_MONITOR:
                c->reply = virt_monitor_command(c->conn, c->name, c->text, &c->error);
                break;
        case CALL_DISKS:
                c->reply = virt_disks(c->host, c->conn, c->name, c->what, c->text, &c->error);
                break;
        case CALL_CHANNEL:
                c->reply = virt_channel_find(c->conn, c->host->uri, c->name, c->text, &c->fd, &c->error);
                break;
        }
        if (c->conn && c->error && virConnectIsAlive(c->conn) == 0)
                c->dead = c->conn;
        if (c->conn && (c->kind != CALL_OPEN || c->error)) {
                virConnectClose(c->conn);
                c->conn = NULL;
        }
        post(c->host, on_call_done, c);
}

/* --- calls, in the main thread */

static Call *call_new(CallKind kind, VirtHost *h, VirtDomain *d)
{
        Call *c = g_new0(Call, 1);

        c->kind = kind;
        c->host = virt_host_ref(h);
        c->domain = d;
        c->fd = -1;
        c->ids = (struct virt_event_ids){-1, -1, -1};
        if (d) {
                c->name = g_strdup(d->name);
                g_ptr_array_add(d->calls, c);
        }
        return c;
}

static void call_free(Call *c)
{
        if (c->domain)
                g_ptr_array_remove_fast(c->domain->calls, c);
        host_timer_clear(&c->timer);
        g_clear_object(&c->cancel);
        g_clear_error(&c->error);
        g_free(c->name);
        g_free(c->text);
        g_free(c->reply);
        virt_host_unref(c->host);
        g_free(c);
}

static void begin(VirtHost *h, Call *c)
{
        c->begun = TRUE;
        if (c->kind != CALL_OPEN && c->kind != CALL_CLOSE) {
                c->conn = h->conn;
                virConnectRef(c->conn);
        }
        g_thread_pool_push(h->pool, c, NULL);
}

static void open_host(VirtHost *h)
{
        host_timer_clear(&h->retry);
        if (h->state != HOST_CLOSED)
                return;
        h->state = HOST_OPENING;
        begin(h, call_new(CALL_OPEN, h, NULL));
}

static gboolean on_retry(gpointer user)
{
        open_host(user);
        return G_SOURCE_REMOVE;
}

static void retry_later(VirtHost *h)
{
        h->retry = host_timer_add(&h->real->env, h->retry_ms, on_retry, h);
        h->retry_ms = MIN(h->retry_ms * 2, RETRY_LONGEST_MS);
}

/* The other references are workers'; the last of them closes it. */
static void drop_connection(VirtHost *h)
{
        Call *c = call_new(CALL_CLOSE, h, NULL);

        c->conn = g_steal_pointer(&h->conn);
        c->ids = h->ids;
        h->state = HOST_CLOSED;
        begin(h, c);
}

/* Whoever notices first: libvirt's word, or a call that failed. */
static void lose_connection(VirtHost *h, virConnectPtr conn, const char *why)
{
        if (!h->conn || h->conn != conn || h->ending)
                return;
        event_log(EVENT_WARNING, "libvirt-lost",
                  "the connection to libvirt broke; VMs and pushes are unaffected, it is made again",
                  "libvirt", h->uri, "why", why, NULL);
        drop_connection(h);
        h->retry_ms = RETRY_FIRST_MS;
        retry_later(h);
        virt_tell_all(h, VIRT_LOST, why);
}

typedef struct {
        VirtHost *host;
        virConnectPtr conn; /* compared, not used */
        int reason;
} Closed;

static gboolean on_closed_in_loop(gpointer user)
{
        static const char *const reasons[] = {"an error on the connection", "libvirtd closed the connection",
                                              "libvirt does not answer (keep-alive)", "closed"};
        Closed *closed = user;

        lose_connection(closed->host, closed->conn, reasons[CLAMP(closed->reason, 0, 3)]);
        virt_host_unref(closed->host);
        g_free(closed);
        return G_SOURCE_REMOVE;
}

/* In any thread, with libvirt's locks held. */
static void on_closed(virConnectPtr conn, int reason, void *user)
{
        Closed *closed = g_new0(Closed, 1);

        closed->host = virt_host_ref(user);
        closed->conn = conn;
        closed->reason = reason;
        post(closed->host, on_closed_in_loop, closed);
}

/* Work that has begun ends first; nobody hears of it. */
static void end_pool(VirtHost *h)
{
        if (h->conn)
                drop_connection(h);
        g_thread_pool_free(g_steal_pointer(&h->pool), /* immediate= */ FALSE, /* wait_= */ FALSE);
}

static void not_opened(VirtHost *h, const GError *why)
{
        h->state = HOST_CLOSED;
        if (!h->complained)
                event_log(EVENT_WARNING, "libvirt-unreachable",
                          "no connection to libvirt; its VMs go on, and are reached over the network if they "
                          "have "
                          "that. It is tried again",
                          "libvirt", h->uri, "why", why->message, NULL);
        h->complained = TRUE;
        retry_later(h);
}

static void opened(VirtHost *h, Call *c)
{
        Call *waiting;

        if (!c->error) {
                h->conn = g_steal_pointer(&c->conn);
                h->ids = c->ids;
                h->state = HOST_OPEN;
        }
        if (h->ending) {
                end_pool(h);
        } else if (c->error) {
                not_opened(h, c->error);
        } else {
                h->retry_ms = RETRY_FIRST_MS;
                h->complained = FALSE;
                event_log(EVENT_INFO, "libvirt-connected", "connected to libvirt", "libvirt", h->uri, NULL);
                while ((waiting = g_queue_pop_head(&h->waiting)))
                        begin(h, waiting);
                virt_tell_all(h, VIRT_CONNECTED, NULL);
        }
}

static gboolean has_reply(const Call *c)
{
        return c->kind == CALL_MONITOR || c->kind == CALL_DISKS;
}

static void channel_found(Call *c)
{
        g_autofree char *peer = NULL;

        if (!c->error && g_cancellable_set_error_if_cancelled(c->cancel, &c->error) && c->fd >= 0)
                close(c->fd);
        if (c->error) {
                c->connected(NULL, c->error, c->user);
        } else if (c->fd >= 0) {
                peer = g_strconcat(c->host->uri, " ", c->name, NULL);
                c->connected(transport_fd_new(c->fd, "virtio-serial", peer, FALSE), NULL, c->user);
        } else {
                env_real_channel_ops.connect_unix(c->host->real, "virtio-serial", c->reply, c->cancel,
                                                  c->connected, c->user);
        }
}

static gboolean on_call_done(gpointer user)
{
        Call *c = user;

        if (c->dead)
                lose_connection(c->host, c->dead, c->error->message);
        if (c->kind == CALL_OPEN)
                opened(c->host, c);
        else if (c->kind == CALL_CHANNEL)
                channel_found(c);
        else if (has_reply(c) && c->domain && !c->told)
                c->replied(c->error ? NULL : c->reply, c->error, c->user);
        call_free(c);
        return G_SOURCE_REMOVE;
}

static gboolean on_timeout(gpointer user)
{
        Call *c = user;
        g_autoptr(GError) error = g_error_new(MOULT_ERROR, MOULT_ERROR_TIMEOUT, "%s",
                                              c->begun ? "QEMU or libvirt did not answer in time"
                                                       : "there is no connection to libvirt");

        host_timer_clear(&c->timer);
        c->told = TRUE;
        if (!c->begun)
                g_queue_remove(&c->host->waiting, c);
        if (c->domain)
                c->replied(NULL, error, c->user);
        if (!c->begun)
                call_free(c);
        return G_SOURCE_REMOVE;
}

static void ask(Call *c, const char *text, guint timeout_ms, virt_reply_func done, gpointer user)
{
        VirtHost *h = c->host;

        c->text = g_strdup(text);
        c->replied = done;
        c->user = user;
        c->timer = host_timer_add(&h->real->env, timeout_ms, on_timeout, c);
        if (h->state == HOST_OPEN) {
                begin(h, c);
        } else {
                g_queue_push_tail(&h->waiting, c);
                open_host(h); /* somebody waits: now, not when the back-off is over */
        }
}

static void monitor(VirtDomain *d, const char *command, guint timeout_ms, virt_reply_func done, gpointer user)
{
        ask(call_new(CALL_MONITOR, d->host, d), command, timeout_ms, done, user);
}

static void disks(VirtDomain *d, VirtDisks what, const char *arguments, guint timeout_ms,
                  virt_reply_func done, gpointer user)
{
        Call *c = call_new(CALL_DISKS, d->host, d);

        c->what = what;
        ask(c, arguments, timeout_ms, done, user);
}

static gboolean on_not_connected(gpointer user)
{
        Call *c = user;

        c->error = g_error_new(MOULT_ERROR, MOULT_ERROR_IO, "there is no connection to libvirt %s",
                               c->host->uri);
        return on_call_done(c);
}

static void open_channel(VirtDomain *d, const char *channel, GCancellable *cancellable,
                         host_connected_func done, gpointer user)
{
        Call *c = call_new(CALL_CHANNEL, d->host, d);

        c->text = g_strdup(channel);
        c->cancel = cancellable ? g_object_ref(cancellable) : NULL;
        c->connected = done;
        c->user = user;
        if (d->host->state == HOST_OPEN)
                begin(d->host, c);
        else
                post(d->host, on_not_connected, c);
}

/* Every error is in a GError already; libvirt would print it too. */
static void ignore_error(void *user, virErrorPtr error)
{
}

static VirtHost *host_find(struct env_real *r, const char *uri)
{
        static gsize once;
        VirtHost *h;

        /* Before the first connection of the process. */
        if (g_once_init_enter(&once)) {
                gvir_event_register();
                virSetErrorFunc(NULL, ignore_error);
                g_once_init_leave(&once, 1);
        }
        if (!r->virt_hosts)
                r->virt_hosts = g_hash_table_new(g_str_hash, g_str_equal);
        h = g_hash_table_lookup(r->virt_hosts, uri);
        if (h)
                return h;
        h = g_new0(VirtHost, 1);
        h->refs = 1;
        h->real = r;
        h->context = g_main_context_ref(r->env.context);
        h->uri = g_strdup(uri);
        h->pool = g_thread_pool_new(work, NULL, CALLS_AT_ONCE, FALSE, NULL);
        h->domains = g_ptr_array_new();
        h->retry_ms = RETRY_FIRST_MS;
        g_mutex_init(&h->jobs_lock);
        g_cond_init(&h->jobs_changed);
        g_queue_init(&h->waiting);
        g_hash_table_insert(r->virt_hosts, h->uri, h);
        return h;
}

static VirtDomain *domain_new(gpointer self, const char *uri, const char *domain, virt_event_func event,
                              gpointer user)
{
        VirtDomain *d = g_new0(VirtDomain, 1);

        d->host = virt_host_ref(host_find(self, uri));
        d->name = g_strdup(domain);
        d->event = event;
        d->user = user;
        d->calls = g_ptr_array_new();
        g_ptr_array_add(d->host->domains, d);
        open_host(d->host);
        return d;
}

static void host_end(VirtHost *h)
{
        Call *c;

        h->ending = TRUE;
        host_timer_clear(&h->retry);
        while ((c = g_queue_pop_head(&h->waiting)))
                call_free(c);
        g_hash_table_remove(h->real->virt_hosts, h->uri);
        if (h->state != HOST_OPENING)
                end_pool(h);
        virt_host_unref(h);
}

static void domain_free(VirtDomain *d)
{
        VirtHost *h = d->host;

        while (d->calls->len > 0) {
                Call *c = d->calls->pdata[0];

                c->domain = NULL;
                g_ptr_array_remove_index_fast(d->calls, 0);
                if (has_reply(c) && !c->begun) {
                        g_queue_remove(&h->waiting, c);
                        call_free(c);
                }
        }
        g_ptr_array_remove(h->domains, d);
        if (h->domains->len == 0)
                host_end(h);
        virt_host_unref(h);
        g_ptr_array_unref(d->calls);
        g_free(d->name);
        g_free(d);
}

const struct host_virt_ops env_real_virt_ops = {
        .domain_new = domain_new,
        .domain_free = domain_free,
        .monitor = monitor,
        .disks = disks,
        .open_channel = open_channel,
};
