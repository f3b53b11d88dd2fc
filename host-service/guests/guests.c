/* host-service/guests/guests.c - the registry of living guests. */
#include "host-service/guests/guests.h"

#include <string.h>

#include "common/events.h"
#include "host-service/guests/serial_link.h"
#include "host-service/guests/tls_door.h"

/* The catalogue's "last seen" is not written more often for one boot of a guest. */
#define SEEN_EVERY_US (60 * G_USEC_PER_SEC)

typedef struct {
        Guests *owner;
        char *vm, *agent, *qmp, *libvirt, *domain;
        Hypervisor *hypervisor; /* or NULL */
        SerialLink *serial;     /* or NULL */
        GuestSession *tls;      /* or NULL */
        gboolean up[GUEST_SESSION_KINDS];
        GPtrArray *packs; /* of FetchPack: offered now */
        gint64 seen_us;
        char *seen_boot_id;
        char *away;     /* why it cannot be met at its hypervisor any more; NULL: it can */
        char *software; /* of its last hello, or NULL */
} Guest;

struct Guests {
        const struct host_env *env;
        Catalogue *catalogue;
        struct guests_config config;
        const struct guests_events *events;
        gpointer user;
        struct session_hello hello;
        TlsDoor *door;
        GHashTable *guests; /* VM name -> Guest */
};

static GuestSession *guest_session_of(Guest *guest, GuestSessionKind kind)
{
        return kind == GUEST_SESSION_TLS ? guest->tls : serial_link_session(guest->serial);
}

static GuestSessionKind kind_of(const Guest *guest, const GuestSession *gs)
{
        return gs == guest->tls ? GUEST_SESSION_TLS : GUEST_SESSION_SERIAL;
}

static void set_up(Guest *guest, GuestSessionKind kind, gboolean up)
{
        Guests *g = guest->owner;

        if (guest->up[kind] == up)
                return;
        guest->up[kind] = up;
        if (up)
                g->events->up(guest->vm, kind, g->user);
        else
                g->events->down(guest->vm, kind, g->user);
}

/* The port is the hypervisor's: whoever speaks there is this VM's agent, and its key is worth pinning. */
static void remember(Guest *guest, const Moult__Hello *peer, GuestSessionKind kind)
{
        Guests *g = guest->owner;
        g_autofree char *boot_id = message_string(peer->boot_id);
        g_autofree char *hostname = message_string(peer->hostname);
        g_autoptr(GError) error = NULL;
        gint64 now_us = host_monotonic_us(g->env);

        g_free(guest->software);
        guest->software = message_string(peer->software);
        if (kind == GUEST_SESSION_SERIAL && peer->tls_fingerprint.len == DIGEST_SIZE &&
            !catalogue_vm_pin(g->catalogue, guest->vm, peer->tls_fingerprint.data, &error)) {
                event_log(EVENT_WARNING, "guest-pin-failed", error->message, "vm", guest->vm, NULL);
                g_clear_error(&error);
        }
        if (guest->seen_us && now_us - guest->seen_us < SEEN_EVERY_US &&
            g_strcmp0(guest->seen_boot_id, boot_id) == 0)
                return;
        guest->seen_us = now_us;
        g_free(guest->seen_boot_id);
        guest->seen_boot_id = g_strdup(boot_id);
        if (!catalogue_vm_seen(g->catalogue, guest->vm, boot_id, hostname, &error))
                event_log(EVENT_WARNING, "guest-seen-failed", error->message, "vm", guest->vm, NULL);
}

static gboolean on_established(GuestSession *gs, const Moult__Hello *peer, gpointer user)
{
        Guest *guest = user;
        GuestSessionKind kind = kind_of(guest, gs);

        remember(guest, peer, kind);
        guest->up[kind] = FALSE; /* also when the peer began anew and we did not see it go */
        set_up(guest, kind, TRUE);
        return TRUE;
}

static void on_lost(GuestSession *gs, gpointer user)
{
        Guest *guest = user;

        set_up(guest, kind_of(guest, gs), FALSE);
}

static void log_closed(const Guest *guest, const GError *why, gboolean misbehaved)
{
        if (misbehaved)
                event_log(EVENT_WARNING, "guest-misbehaves",
                          "a guest broke the channel's limits; its session is reset, other guests are "
                          "unaffected",
                          "vm", guest->vm, "why", why->message, NULL);
        else
                event_log(EVENT_DEBUG, "guest-gone", "a guest's session ended", "vm", guest->vm, "why",
                          why ? why->message : "closed", NULL);
}

/* Over serial_link.c, which frees the session and connects again. */
static void on_serial_closed(GuestSession *gs, const GError *why, gboolean misbehaved, gpointer user)
{
        Guest *guest = user;

        log_closed(guest, why, misbehaved);
        set_up(guest, GUEST_SESSION_SERIAL, FALSE);
}

static void on_tls_closed(GuestSession *gs, const GError *why, gboolean misbehaved, gpointer user)
{
        Guest *guest = user;

        log_closed(guest, why, misbehaved);
        guest->tls = NULL;
        guest_session_free(gs);
        set_up(guest, GUEST_SESSION_TLS, FALSE);
}

static void on_state(GuestSession *gs, const Moult__TransactionState *state, gpointer user)
{
        Guest *guest = user;

        guest->owner->events->state(guest->vm, state, guest->owner->user);
}

static void on_upgrade_request(GuestSession *gs, const Message *request, gpointer user)
{
        Guest *guest = user;

        guest->owner->events->upgrade_request(guest->vm, guest_session_get(gs), request, guest->owner->user);
}

static FetchPack *on_find_pack(GuestSession *gs, const guint8 *digest, gsize len, gpointer user)
{
        Guest *guest = user;

        for (guint i = 0; len == DIGEST_SIZE && i < guest->packs->len; i++)
                if (memcmp(fetch_pack_digest(guest->packs->pdata[i]), digest, DIGEST_SIZE) == 0)
                        return guest->packs->pdata[i];
        return NULL;
}

static const struct guest_session_events serial_events = {
        .established = on_established,
        .lost = on_lost,
        .closed = on_serial_closed,
        .state = on_state,
        .upgrade_request = on_upgrade_request,
        .find_pack = on_find_pack,
};

static const struct guest_session_events tls_events = {
        .established = on_established,
        .lost = on_lost,
        .closed = on_tls_closed,
        .state = on_state,
        .upgrade_request = on_upgrade_request,
        .find_pack = on_find_pack,
};

static void on_enter(const char *vm, GuestSession *gs, const Moult__Hello *peer, gpointer user)
{
        Guests *g = user;
        Guest *guest = g_hash_table_lookup(g->guests, vm);

        if (!guest) { /* in the catalogue, but not told to us yet */
                guests_vm_changed(g, vm);
                guest = g_hash_table_lookup(g->guests, vm);
        }
        if (!guest) {
                guest_session_free(gs);
                return;
        }
        if (guest->tls) { /* an old connection that nobody has closed yet: the newer one is the living one */
                guest_session_free(g_steal_pointer(&guest->tls));
                set_up(guest, GUEST_SESSION_TLS, FALSE);
        }
        guest->tls = gs;
        guest_session_set_events(gs, &tls_events, guest);
        on_established(gs, peer, guest);
}

static void on_hypervisor_event(HypervisorEvent event, const char *detail, gpointer user)
{
        Guest *guest = user;
        Guests *g = guest->owner;

        if (event == HYPERVISOR_EVENT_AWAY) {
                g_free(guest->away);
                guest->away = g_strdup(detail);
        }
        if ((event == HYPERVISOR_EVENT_WINDOW_GONE || event == HYPERVISOR_EVENT_SHUTDOWN) &&
            g->events->window_gone)
                g->events->window_gone(guest->vm, g->user);
}

static void guest_free(gpointer p)
{
        Guest *guest = p;

        hypervisor_free(guest->hypervisor);
        serial_link_free(guest->serial);
        guest_session_free(guest->tls);
        g_ptr_array_unref(guest->packs);
        g_free(guest->seen_boot_id);
        g_free(guest->away);
        g_free(guest->software);
        g_free(guest->vm);
        g_free(guest->agent);
        g_free(guest->qmp);
        g_free(guest->libvirt);
        g_free(guest->domain);
        g_free(guest);
}

static void add_guest(Guests *g, const VmRecord *vm)
{
        const struct serial_port port = {vm->agent, vm->libvirt, vm->domain};
        Guest *guest = g_new0(Guest, 1);

        guest->owner = g;
        guest->vm = g_strdup(vm->name);
        guest->agent = g_strdup(vm->agent);
        guest->qmp = g_strdup(vm->qmp);
        guest->libvirt = g_strdup(vm->libvirt);
        guest->domain = g_strdup(vm->domain);
        guest->packs = g_ptr_array_new_with_free_func((GDestroyNotify)fetch_pack_unref);
        g_hash_table_insert(g->guests, guest->vm, guest);
        if (vm->libvirt && !g->env->virt) {
                event_log(EVENT_ERROR, "libvirt-missing",
                          "this moultd was built without libvirt: the VM is reached over the network only",
                          "vm", vm->name, "libvirt", vm->libvirt, NULL);
                return;
        }
        if (vm->libvirt)
                guest->hypervisor = hypervisor_libvirt_new(g->env, vm->libvirt, vm->domain);
        else if (vm->qmp)
                guest->hypervisor = hypervisor_qmp_new(g->env, vm->qmp);
        if (guest->hypervisor)
                hypervisor_set_events(guest->hypervisor, on_hypervisor_event, guest);
        if (vm->agent || vm->libvirt)
                guest->serial = serial_link_new(g->env, &port, &g->hello, &serial_events, guest);
}

Guests *guests_new(const struct host_env *env, Catalogue *c, const struct guests_config *config,
                   const struct guests_events *events, gpointer user)
{
        Guests *g = g_new0(Guests, 1);

        g->env = env;
        g->catalogue = c;
        g->config = *config;
        g->events = events;
        g->user = user;
        g->hello.role = MOULT__ROLE__ROLE_HOST;
        g->hello.software = "moultd " MOULT_VERSION;
        if (config->identity) {
                g->hello.tls_fingerprint = tls_identity_fingerprint(config->identity);
                g->hello.endpoints = config->tls_endpoints;
        }
        g->guests = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, guest_free);
        return g;
}

gboolean guests_begin(Guests *g, GError **error)
{
        g_autoptr(GPtrArray) vms = catalogue_vm_list(g->catalogue, error);

        if (!vms)
                return FALSE;
        for (guint i = 0; i < vms->len; i++)
                add_guest(g, vms->pdata[i]);
        if (!g->config.identity || !g->config.tls_endpoints || !g->config.tls_endpoints[0])
                return TRUE;
        g->door = tls_door_new(g->env, g->catalogue, g->config.identity, g->config.tls_endpoints, &g->hello,
                               on_enter, g, error);
        return g->door != NULL;
}

void guests_free(Guests *g)
{
        if (!g)
                return;
        tls_door_free(g->door);
        g_hash_table_unref(g->guests);
        g_free(g);
}

void guests_vm_changed(Guests *g, const char *vm)
{
        g_autoptr(VmRecord) r = catalogue_vm_get(g->catalogue, vm, NULL);
        Guest *guest = g_hash_table_lookup(g->guests, vm);

        if (guest && r && g_strcmp0(guest->agent, r->agent) == 0 && g_strcmp0(guest->qmp, r->qmp) == 0 &&
            g_strcmp0(guest->libvirt, r->libvirt) == 0 && g_strcmp0(guest->domain, r->domain) == 0)
                return;
        if (guest) {
                g_hash_table_steal(g->guests, vm);
                for (guint kind = 0; kind < GUEST_SESSION_KINDS; kind++)
                        set_up(guest, kind, FALSE);
                guest_free(guest);
        }
        if (r)
                add_guest(g, r);
}

const char *guests_away(Guests *g, const char *vm)
{
        Guest *guest = g_hash_table_lookup(g->guests, vm);

        return guest ? guest->away : NULL;
}

Hypervisor *guests_hypervisor(Guests *g, const char *vm)
{
        Guest *guest = g_hash_table_lookup(g->guests, vm);

        return guest ? guest->hypervisor : NULL;
}

const char *guests_software(Guests *g, const char *vm)
{
        const Guest *guest = g_hash_table_lookup(g->guests, vm);

        return guest ? guest->software : NULL;
}

Session *guests_session(Guests *g, const char *vm, GuestSessionKind kind)
{
        Guest *guest = g_hash_table_lookup(g->guests, vm);
        GuestSession *gs = guest && guest->up[kind] ? guest_session_of(guest, kind) : NULL;

        return gs && session_is_established(guest_session_get(gs)) ? guest_session_get(gs) : NULL;
}

void guests_expect(Guests *g, const char *vm, const Session *s, gsize bytes)
{
        Guest *guest = g_hash_table_lookup(g->guests, vm);

        for (guint kind = 0; guest && kind < GUEST_SESSION_KINDS; kind++) {
                GuestSession *gs = guest_session_of(guest, (GuestSessionKind)kind);

                if (gs && guest_session_get(gs) == s)
                        guest_session_expect(gs, bytes);
        }
}

void guests_offer_pack(Guests *g, const char *vm, const guint8 digest[static DIGEST_SIZE],
                       const char *store_name, guint64 size_bytes)
{
        Guest *guest = g_hash_table_lookup(g->guests, vm);

        if (!guest)
                return;
        guests_withdraw_pack(g, vm, digest);
        g_ptr_array_add(guest->packs, fetch_pack_new(g->env, digest, store_name, size_bytes));
}

void guests_withdraw_pack(Guests *g, const char *vm, const guint8 digest[static DIGEST_SIZE])
{
        Guest *guest = g_hash_table_lookup(g->guests, vm);

        for (guint i = 0; guest && i < guest->packs->len; i++)
                if (memcmp(fetch_pack_digest(guest->packs->pdata[i]), digest, DIGEST_SIZE) == 0)
                        g_ptr_array_remove_index_fast(guest->packs, i--);
}
