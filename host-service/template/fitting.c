/* host-service/template/fitting.c - from a payload, settings and what is there to a list of things to do. */
#include "host-service/template/fitting.h"

#include <string.h>

#include "common/error.h"

#define UNITS     "/lib/systemd/system/"
#define ENABLED   "/etc/systemd/system/"
#define DOC       "/usr/share/doc/"
#define SCRIPTS   "/usr/share/doc/moult-agent/"
#define INITTAB   "/etc/inittab"
#define TRUSTED   "/etc/moult/trusted.d"
#define STATE     "/var/lib/moult"
#define STATE_TLS STATE "/tls"
#define IDENTITY  STATE_TLS "/identity.pem"
#define HOST_PIN  STATE_TLS "/host.pin"

/* In the order in which inits need them. */
static const char *const scripts[] = {"moult-recover", "moult-agent", "moult-boot-ok"};

struct fitting {
        const GPtrArray *payload;
        const struct template_settings *settings;
        const struct template_view *view;
        GPtrArray *items;
};

static void item_free(gpointer data)
{
        struct fitting_item *i = data;

        g_free(i->path);
        g_clear_pointer(&i->data, g_bytes_unref);
        g_free(i->link);
        g_strfreev(i->argv);
        g_free(i->why);
        g_free(i);
}

static struct fitting_item *add(struct fitting *f, enum fitting_kind kind, enum fitting_state state,
                                const char *path)
{
        struct fitting_item *i = g_new0(struct fitting_item, 1);

        i->kind = kind;
        i->state = state;
        i->path = g_strdup(path);
        g_ptr_array_add(f->items, i);
        return i;
}

static gboolean exists(const struct fitting *f, const char *path)
{
        return f->view->exists(path, f->view->user);
}

/* Takes over @data. */
static struct fitting_item *add_write(struct fitting *f, const char *path, guint mode, GBytes *data)
{
        g_autoptr(GBytes) there = f->view->read(path, f->view->user);
        struct fitting_item *i = add(f, FITTING_WRITE,
                                     there && g_bytes_equal(there, data) ? FITTING_SAME
                                     : there || exists(f, path)          ? FITTING_CHANGED
                                                                         : FITTING_NEW,
                                     path);

        i->mode = mode;
        i->data = data;
        return i;
}

static struct fitting_item *add_link(struct fitting *f, const char *path, const char *text)
{
        g_autofree char *there = f->view->link(path, f->view->user);
        struct fitting_item *i = add(f, FITTING_LINK,
                                     g_strcmp0(there, text) == 0 ? FITTING_SAME
                                     : there || exists(f, path)  ? FITTING_CHANGED
                                                                 : FITTING_NEW,
                                     path);

        i->link = g_strdup(text);
        return i;
}

static void add_directory(struct fitting *f, const char *path, guint mode)
{
        struct fitting_item *i =
                add(f, FITTING_DIRECTORY, exists(f, path) ? FITTING_SAME : FITTING_NEW, path);

        i->mode = mode;
}

/* ---- what starts it ---- */

enum template_init fitting_init(const struct template_view *v)
{
        if (v->exists("/lib/systemd/systemd", v->user) || v->exists("/usr/lib/systemd/systemd", v->user))
                return TEMPLATE_SYSTEMD;
        if (v->exists("/etc/rcS.d", v->user) && v->exists("/usr/sbin/update-rc.d", v->user))
                return TEMPLATE_SYSV;
        return v->exists(INITTAB, v->user) ? TEMPLATE_INITTAB : TEMPLATE_OTHER;
}

const char *fitting_init_name(enum template_init init)
{
        static const char *const names[] = {"systemd", "System V init", "inittab",
                                            "an init that is not known here"};

        return names[init];
}

static void enable_at(struct fitting *f, const char *unit, const char *target)
{
        g_autofree char *path = g_strdup_printf(ENABLED "%s.wants/%s", target, unit);
        g_autofree char *text = g_strconcat(UNITS, unit, NULL);
        g_autofree char *mask = g_strconcat(ENABLED, unit, NULL);
        g_autofree char *masked = f->view->link(mask, f->view->user);
        struct fitting_item *i = add_link(f, path, text);

        if (masked && g_str_equal(masked, "/dev/null") && i->state != FITTING_SAME) {
                i->state = FITTING_KEPT;
                i->why = g_strdup("the unit is masked: unmask it if it is to run");
        }
}

/* As `systemctl enable` does, from the unit's own [Install]. */
static void enable_units(struct fitting *f)
{
        for (guint n = 0; n < f->payload->len; n++) {
                const struct payload_file *p = f->payload->pdata[n];
                g_autoptr(GKeyFile) unit = g_key_file_new();
                g_auto(GStrv) targets = NULL;
                g_autofree char *wanted = NULL;

                if (!p->data || !g_str_has_prefix(p->path, UNITS) ||
                    !g_key_file_load_from_bytes(unit, p->data, G_KEY_FILE_NONE, NULL) ||
                    !(wanted = g_key_file_get_string(unit, "Install", "WantedBy", NULL)))
                        continue;
                targets = g_strsplit(wanted, " ", 0);
                for (gsize t = 0; targets[t]; t++)
                        if (*targets[t])
                                enable_at(f, p->path + strlen(UNITS), targets[t]);
        }
}

/* FALSE: the payload has none (a package for Debian, whose init is systemd). */
static gboolean add_scripts(struct fitting *f, GError **error)
{
        for (gsize n = 0; n < G_N_ELEMENTS(scripts); n++) {
                g_autofree char *from = g_strdup_printf(SCRIPTS "%s.init", scripts[n]);
                g_autofree char *to = g_strconcat("/etc/init.d/", scripts[n], NULL);
                const struct payload_file *p = payload_find(f->payload, from);

                if (!p || !p->data) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "this image has no systemd, and what is to be put in has no scripts for "
                                    "other inits: "
                                    "take the archive of the static agent (moult-agent-static_*.tar.xz)");
                        return FALSE;
                }
                add_write(f, to, 0755, g_bytes_ref(p->data));
        }
        return TRUE;
}

static void run_update_rc(struct fitting *f)
{
        for (gsize n = 0; n < G_N_ELEMENTS(scripts); n++) {
                const char *argv[] = {"update-rc.d", scripts[n], "defaults", NULL};
                struct fitting_item *i;
                g_autofree char *what = g_strjoinv(" ", (char **)argv);

                i = add(f, FITTING_RUN, FITTING_NEW, what);
                i->argv = g_strdupv((char **)argv);
        }
}

/* Lines of one's own come last: sysinit lines run in the file's order, and the file systems are mounted by
 * then. */
static void add_inittab(struct fitting *f)
{
        static const char lines[] = "# moult: see moult-agent(8)\n"
                                    "::sysinit:/etc/init.d/moult-recover start\n"
                                    "::once:/etc/init.d/moult-boot-ok start\n"
                                    "::respawn:" PAYLOAD_AGENT " run\n";
        g_autoptr(GBytes) there = f->view->read(INITTAB, f->view->user);
        gsize len = 0;
        const char *data = there ? g_bytes_get_data(there, &len) : "";
        g_autofree char *text = g_strndup(data, len);
        gboolean done = strstr(text, PAYLOAD_AGENT " run") != NULL;
        char *after = done ? g_strdup(text)
                           : g_strconcat(text, len > 0 && text[len - 1] != '\n' ? "\n" : "", lines, NULL);

        add_write(f, INITTAB, 0644, g_bytes_new_take(after, strlen(after)));
}

static gboolean add_start(struct fitting *f, enum template_init init, GError **error)
{
        if (init == TEMPLATE_SYSTEMD) {
                enable_units(f);
                return TRUE;
        }
        if (init == TEMPLATE_OTHER) {
                add(f, FITTING_RUN, FITTING_KEPT, PAYLOAD_AGENT " run")->why =
                        g_strdup("no init that is known here: have it started at every start of the machine, "
                                 "and kept running");
                return TRUE;
        }
        if (!add_scripts(f, error))
                return FALSE;
        if (init == TEMPLATE_SYSV)
                run_update_rc(f);
        else
                add_inittab(f);
        return TRUE;
}

/* ---- files ---- */

static gboolean is_wanted(const struct payload_file *p, enum template_init init)
{
        return !g_str_has_prefix(p->path, DOC) && !g_str_equal(p->path, PAYLOAD_CONF) &&
               (init == TEMPLATE_SYSTEMD || !g_str_has_prefix(p->path, "/lib/systemd/"));
}

static void add_files(struct fitting *f, enum template_init init)
{
        for (guint n = 0; n < f->payload->len; n++) {
                const struct payload_file *p = f->payload->pdata[n];

                if (!is_wanted(p, init))
                        continue;
                if (p->data)
                        add_write(f, p->path, p->mode, g_bytes_ref(p->data));
                else if (p->link)
                        add_link(f, p->path, p->link);
                else if (!exists(f, p->path))
                        add_directory(f, p->path, p->mode);
        }
}

char *fitting_set_host(const char *text, const char *host, GError **error)
{
        g_autoptr(GKeyFile) keys = g_key_file_new();

        if (!g_key_file_load_from_data(keys, text, (gsize)-1, G_KEY_FILE_KEEP_COMMENTS, error)) {
                g_prefix_error(error, PAYLOAD_CONF ": ");
                return NULL;
        }
        g_key_file_set_string(keys, "network", "host", host);
        return g_key_file_to_data(keys, NULL, NULL);
}

static gboolean add_settings(struct fitting *f, GError **error)
{
        g_autoptr(GBytes) there = f->view->read(PAYLOAD_CONF, f->view->user);
        const GBytes *base = there ? there : payload_find(f->payload, PAYLOAD_CONF)->data;
        gsize len = g_bytes_get_size((GBytes *)base);
        g_autofree char *text = g_strndup(g_bytes_get_data((GBytes *)base, NULL), len), *changed = NULL;

        if (f->settings->host) {
                changed = fitting_set_host(text, f->settings->host, error);
                if (!changed)
                        return FALSE;
        }
        const char *want = changed ? changed : text;
        struct fitting_item *i = add_write(f, PAYLOAD_CONF, 0644, g_bytes_new(want, strlen(want)));
        if (there && i->state == FITTING_SAME &&
            !g_bytes_equal(there, payload_find(f->payload, PAYLOAD_CONF)->data)) {
                i->state = FITTING_KEPT;
                i->why = g_strdup("settings of the image's own stay as they are");
        }
        return TRUE;
}

static gboolean add_keys(struct fitting *f, GError **error)
{
        add_directory(f, TRUSTED, 0755);
        for (guint n = 0; f->settings->keys && n < f->settings->keys->len; n++) {
                const struct template_key *k = f->settings->keys->pdata[n];
                g_autofree char *path = g_build_filename(TRUSTED, k->name, NULL);
                const struct fitting_item *i = add_write(f, path, 0644, g_bytes_ref(k->data));

                if (i->state == FITTING_CHANGED) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "the image trusts another key under the name %s: give this one another "
                                    "file name, or "
                                    "take that one out",
                                    path);
                        return FALSE;
                }
        }
        return TRUE;
}

static void add_host_key(struct fitting *f)
{
        g_autofree char *pin = NULL;

        if (!f->settings->host_key)
                return;
        add_directory(f, STATE, 0700);
        add_directory(f, STATE_TLS, 0700);
        pin = g_strdup_printf("[host]\nfingerprint=%s\n", f->settings->host_key);
        add_write(f, HOST_PIN, 0600, g_bytes_new(pin, strlen(pin)));
}

/* An agent that ran in the image has left what is one machine's. */
static void add_state(struct fitting *f)
{
        if (exists(f, IDENTITY))
                add(f, FITTING_REMOVE, FITTING_NEW, IDENTITY)->why =
                        g_strdup("every clone makes a network key of its own");
        if (exists(f, STATE "/generations"))
                add(f, FITTING_WRITE, FITTING_KEPT, STATE "/generations")->why =
                        g_strdup("the history of the image, and its way back, go with the clones");
}

GPtrArray *fitting_plan(const GPtrArray *payload, enum template_init init,
                        const struct template_settings *settings, const struct template_view *view,
                        GError **error)
{
        g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(item_free);
        struct fitting f = {payload, settings, view, items};

        add_files(&f, init);
        if (!add_settings(&f, error) || !add_keys(&f, error))
                return NULL;
        add_host_key(&f);
        add_state(&f);
        return add_start(&f, init, error) ? g_steal_pointer(&items) : NULL;
}

gboolean fitting_changes(const GPtrArray *items)
{
        for (guint i = 0; i < items->len; i++) {
                const struct fitting_item *item = items->pdata[i];

                if (item->state == FITTING_NEW || item->state == FITTING_CHANGED)
                        return TRUE;
        }
        return FALSE;
}
