/* tests/sim/host.c - the moultd of the simulation. */
#include "tests/sim/host.h"

#include "host-service/catalogue/releases.h"
#include "host-service/housekeeping.h"
#include "host-service/release/releases.h"
#include "host-service/rollout/rollout_manager.h"
#include "tests/sim/host_env.h"

#define START_RETRY_US (2 * G_USEC_PER_SEC)
#define TRUST_DIR      "/nonexistent" /* nothing is imported */

struct Host {
        World *w;
        struct host_surroundings around;
        Disk *disk;
        Catalogue *catalogue;
        Jobs *jobs;
        Releases *releases;
        PushManager *pushes;
        RolloutManager *rollouts;
        Housekeeping *housekeeping;
        gboolean up, dead, ends; /* dead: killed, not yet buried; ends: SIGTERM came */
        guint effects_left;      /* until it is killed; 0: it is not to be */
        gboolean power_cut;
        gint64 down_us;
        guint concurrent;
        guint64 bytes;
        world_func listener;
        gpointer user;
};

/* --- death --- */

static void die(Host *h)
{
        world_trace(h->w, "host is %s", h->power_cut ? "cut off from power" : "killed");
        h->dead = TRUE;
        h->effects_left = 0;
        disk_freeze(h->disk, h->power_cut);
}

gboolean host_effect(gpointer host)
{
        Host *h = host;

        if (h->up && !h->dead && h->effects_left > 0 && --h->effects_left == 0)
                die(h);
        return !h->dead;
}

static void take_down(Host *h)
{
        g_clear_pointer(&h->rollouts, rollout_manager_free);
        g_clear_pointer(&h->pushes, push_manager_free);
        world_hurry(h->w, TRUE);
        g_clear_pointer(&h->releases, releases_free);
        g_clear_pointer(&h->jobs, jobs_free);
        g_clear_pointer(&h->housekeeping, housekeeping_free);
        g_clear_pointer(&h->catalogue, catalogue_close);
        /* What connects or works still comes back now. */
        while (g_main_context_iteration(world_context(h->w), FALSE))
                ;
        world_hurry(h->w, FALSE);
        h->up = FALSE;
}

static void start_again(gpointer user)
{
        host_start(user);
}

void host_bury(Host *h)
{
        if (!h->dead && !h->ends)
                return;
        take_down(h);
        if (h->dead)
                disk_thaw(h->disk);
        world_trace(h->w, "host is down");
        h->dead = h->ends = FALSE;
        world_at(h->w, h->down_us, start_again, h);
}

void host_restart(Host *h, gint64 down_us)
{
        if (!host_is_up(h))
                return;
        world_trace(h->w, "host ends");
        h->effects_left = 0;
        h->down_us = down_us;
        h->ends = TRUE;
}

static void on_idle_kill(gpointer user)
{
        Host *h = user;

        if (h->up && !h->dead && h->effects_left > 0)
                die(h);
}

void host_kill(Host *h, guint effects, gboolean power_cut, gint64 down_us)
{
        if (!host_is_up(h))
                return;
        h->power_cut = power_cut;
        h->down_us = down_us;
        h->effects_left = effects;
        if (effects == 0)
                die(h);
        else /* it may have no effect for long: then it dies in peace */
                world_at(h->w, 20 * G_USEC_PER_SEC, on_idle_kill, h);
}

/* --- life --- */

static void on_events(gint64 last_seq, gpointer user)
{
        Host *h = user;

        if (!h->dead && h->listener)
                h->listener(h->user);
}

static gboolean start(Host *h, GError **error)
{
        const struct host_env *env = &h->around.env;
        struct push_manager_config config = {.concurrent = h->concurrent, .concurrent_bytes = h->bytes};

        h->catalogue = catalogue_open(env, error);
        if (!h->catalogue)
                return FALSE;
        catalogue_listen(h->catalogue, on_events, h);
        h->jobs = jobs_new(env, h->catalogue);
        h->releases = releases_new(env, h->catalogue, h->jobs, TRUST_DIR, error);
        if (!h->releases)
                return FALSE;
        h->pushes = push_manager_new(env, h->catalogue, h->jobs, &config, error);
        if (!h->pushes)
                return FALSE;
        h->rollouts = rollout_manager_new(env, h->catalogue, h->jobs, h->pushes);
        if (!jobs_begin(h->jobs, error))
                return FALSE;
        push_manager_begin(h->pushes);
        h->housekeeping = housekeeping_new(env, h->catalogue);
        return TRUE;
}

void host_start(Host *h)
{
        g_autoptr(GError) error = NULL;

        if (h->up)
                return;
        world_trace(h->w, "host starts");
        h->up = TRUE;
        if (start(h, &error))
                return;
        world_trace(h->w, "host cannot start: %s", error->message);
        h->down_us = START_RETRY_US;
        h->ends = TRUE;
}

Host *host_new(World *w, const Vault *vault, GBytes *template)
{
        Host *h = g_new0(Host, 1);
        gsize len;
        const void *data = g_bytes_get_data(template, &len);

        h->w = w;
        h->disk = disk_new(w, host_effect, h);
        disk_put(h->disk, "catalogue.db", data, len);
        h->around.w = w;
        h->around.vault = vault;
        h->around.effect = host_effect;
        h->around.user = h;
        host_env_fill(&h->around, disk_vfs(h->disk));
        return h;
}

void host_set_vms(Host *h, const GPtrArray *vms)
{
        h->around.vms = vms;
}

void host_set_budgets(Host *h, guint concurrent, guint64 bytes)
{
        h->concurrent = concurrent;
        h->bytes = bytes;
}

void host_stop(Host *h)
{
        if (h->up)
                take_down(h);
        if (h->dead)
                disk_thaw(h->disk);
        h->dead = h->ends = FALSE;
        world_forget(h->w, h);
}

void host_free(Host *h)
{
        if (!h)
                return;
        host_stop(h);
        disk_free(h->disk);
        g_free(h);
}

gboolean host_is_up(const Host *h)
{
        return h->up && !h->dead && !h->ends;
}

Catalogue *host_catalogue(Host *h)
{
        return h->catalogue;
}

Jobs *host_jobs(Host *h)
{
        return h->jobs;
}

const struct host_env *host_environment(const Host *h)
{
        return &h->around.env;
}

void host_vm_changed(Host *h, const char *vm)
{
        const struct guest_view *view = push_manager_guest_view(h->pushes);

        view->ops->vm_changed(view->self, vm);
}

Disk *host_disk(Host *h)
{
        return h->disk;
}

void host_set_store(Host *h, VaultManner manner, gboolean broken)
{
        h->around.manner = manner;
        h->around.broken = broken;
}

VaultManner host_store_manner(gpointer host)
{
        return ((Host *)host)->around.manner;
}

void host_set_listener(Host *h, world_func func, gpointer user)
{
        h->listener = func;
        h->user = user;
}

static void add_releases(Catalogue *c)
{
        static const char *const paths[] = {"etc/a", "etc/b", NULL};
        g_autoptr(GError) error = NULL;

        for (guint i = 1; i <= VAULT_RELEASES; i++) {
                ReleaseRecord r = {.name = (char *)"demo",
                                   .version = (char *)vault_version(i),
                                   .file = (char *)vault_file(i),
                                   .size = VAULT_PACK_SIZE,
                                   .padded_size = RELEASE_PADDED_MIN,
                                   .entries = GUEST_FILES};

                vault_digest(i, r.digest);
                if (!catalogue_release_add(c, &r, paths, &error))
                        g_error("a release cannot be added: %s", error->message);
        }
}

GBytes *host_template_new(const Vault *vault)
{
        g_autoptr(World) w = world_new(0, FALSE);
        g_autoptr(GBytes) nothing = g_bytes_new_static("", 0);
        Host *h = host_new(w, vault, nothing);
        g_autoptr(GError) error = NULL;
        Catalogue *c = catalogue_open(&h->around.env, &error);
        GBytes *template;

        if (!c)
                g_error("a catalogue cannot be made: %s", error->message);
        add_releases(c);
        catalogue_close(c); /* all is in the one file then */
        template = disk_get(h->disk, "catalogue.db");
        host_free(h);
        return template;
}
