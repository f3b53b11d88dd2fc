/* tests/unit/test_template_fitting.c - what has to be done in a template, from lists of what is there. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/template/fitting.h"

TestSuite(fitting, .timeout = 10);

/* An image of a test: path -> text; a link's text begins with "->". */
typedef struct fake {
        GHashTable *files;
        struct template_view view;
} Fake;

static gboolean fake_exists(const char *path, gpointer user)
{
        return g_hash_table_contains(user, path);
}

static GBytes *fake_read(const char *path, gpointer user)
{
        const char *text = g_hash_table_lookup(user, path);

        return text && !g_str_has_prefix(text, "->") ? g_bytes_new(text, strlen(text)) : NULL;
}

static char *fake_link(const char *path, gpointer user)
{
        const char *text = g_hash_table_lookup(user, path);

        return text && g_str_has_prefix(text, "->") ? g_strdup(text + 2) : NULL;
}

static struct fake fake_new(void)
{
        GHashTable *files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

        return (struct fake){files, {fake_exists, fake_read, fake_link, files}};
}

static void fake_clear(struct fake *f)
{
        g_hash_table_unref(f->files);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Fake, fake_clear)

static void put(struct fake *f, const char *path, const char *text)
{
        g_hash_table_replace(f->files, g_strdup(path), g_strdup(text));
}

static void payload_add(GPtrArray *payload, const char *path, guint mode, const char *data, const char *link)
{
        struct payload_file *p = g_new0(struct payload_file, 1);

        p->path = g_strdup(path);
        p->mode = mode;
        p->data = data ? g_bytes_new(data, strlen(data)) : NULL;
        p->link = g_strdup(link);
        g_ptr_array_add(payload, p);
}

#define CONF "# settings\n[agent]\n#root=/\n\n[network]\n#host=192.0.2.1:7878\n"

static GPtrArray *payload_new(void)
{
        GPtrArray *p = g_ptr_array_new_with_free_func(payload_file_free);

        payload_add(p, PAYLOAD_CONF, 0644, CONF, NULL);
        payload_add(p, "/lib/systemd/system/moult-agent.service", 0644,
                    "[Service]\nExecStart=x\n[Install]\nWantedBy=multi-user.target\n", NULL);
        payload_add(p, "/lib/systemd/system/moult-boot-ok.service", 0644, "[Service]\nExecStart=x\n", NULL);
        payload_add(p, "/lib/udev/rules.d/60-moult-agent.rules", 0644, "rule\n", NULL);
        payload_add(p, "/usr/bin/moult-agent", 0777, NULL, "../sbin/moult-agent");
        payload_add(p, PAYLOAD_AGENT, 0755, "program", NULL);
        payload_add(p, "/usr/share/doc/moult-agent/moult-agent.init", 0644, "agent script", NULL);
        payload_add(p, "/usr/share/doc/moult-agent/moult-boot-ok.init", 0644, "boot script", NULL);
        payload_add(p, "/usr/share/doc/moult-agent/moult-recover.init", 0644, "recover script", NULL);
        return p;
}

static const struct template_settings none;

static GPtrArray *plan(struct fake *f, const struct template_settings *s)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) payload = payload_new();
        GPtrArray *items = fitting_plan(payload, fitting_init(&f->view), s, &f->view, &error);

        cr_assert(items != NULL, "%s", error ? error->message : "");
        return items;
}

static const struct fitting_item *find(const GPtrArray *items, const char *path)
{
        for (guint i = 0; i < items->len; i++)
                if (g_str_equal(((const struct fitting_item *)items->pdata[i])->path, path))
                        return items->pdata[i];
        return NULL;
}

static void expect(const GPtrArray *items, const char *path, enum fitting_state state)
{
        const struct fitting_item *i = find(items, path);

        cr_assert(i != NULL, "%s is not in the list", path);
        cr_expect(eq(int, (int)i->state, (int)state), "%s", path);
}

/* As prepare.c does it. */
static void apply(struct fake *f, const GPtrArray *items)
{
        for (guint n = 0; n < items->len; n++) {
                const struct fitting_item *i = items->pdata[n];

                if (i->state != FITTING_NEW && i->state != FITTING_CHANGED)
                        continue;
                if (i->kind == FITTING_WRITE) {
                        g_autofree char *text =
                                g_strndup(g_bytes_get_data(i->data, NULL), g_bytes_get_size(i->data));
                        put(f, i->path, text);
                } else if (i->kind == FITTING_LINK) {
                        g_autofree char *text = g_strconcat("->", i->link, NULL);
                        put(f, i->path, text);
                } else if (i->kind == FITTING_DIRECTORY) {
                        put(f, i->path, "->");
                } else if (i->kind == FITTING_REMOVE) {
                        g_hash_table_remove(f->files, i->path);
                }
        }
}

Test(fitting, a_system_with_systemd_gets_units_that_are_enabled_and_a_second_time_nothing)
{
        g_auto(Fake) f = fake_new();

        put(&f, "/usr/lib/systemd/systemd", "");
        g_autoptr(GPtrArray) items = plan(&f, &none);
        expect(items, PAYLOAD_AGENT, FITTING_NEW);
        expect(items, "/lib/systemd/system/moult-boot-ok.service", FITTING_NEW);
        const struct fitting_item *wants =
                find(items, "/etc/systemd/system/multi-user.target.wants/moult-agent.service");
        cr_assert(wants != NULL);
        cr_expect(eq(str, wants->link, (char *)"/lib/systemd/system/moult-agent.service"));
        cr_expect(eq(ptr, (void *)find(items, "/etc/init.d/moult-agent"), NULL));
        cr_expect(eq(ptr, (void *)find(items, "/usr/share/doc/moult-agent/moult-agent.init"), NULL));
        cr_expect(eq(uint, find(items, PAYLOAD_AGENT)->mode, 0755));
        apply(&f, items);
        g_autoptr(GPtrArray) again = plan(&f, &none);
        cr_expect(not(fitting_changes(again)));
}

Test(fitting, a_masked_unit_stays_masked)
{
        g_auto(Fake) f = fake_new();

        put(&f, "/lib/systemd/systemd", "");
        put(&f, "/etc/systemd/system/moult-agent.service", "->/dev/null");
        g_autoptr(GPtrArray) items = plan(&f, &none);
        expect(items, "/etc/systemd/system/multi-user.target.wants/moult-agent.service", FITTING_KEPT);
}

Test(fitting, an_inittab_gets_its_lines_once_at_its_end)
{
        g_auto(Fake) f = fake_new();

        put(&f, "/etc/inittab", "::sysinit:/etc/init.d/rcS");
        g_autoptr(GPtrArray) items = plan(&f, &none);
        apply(&f, items);
        const char *text = g_hash_table_lookup(f.files, "/etc/inittab");
        cr_expect(g_str_has_prefix(text, "::sysinit:/etc/init.d/rcS\n"));
        cr_expect(strstr(text, "\n::respawn:/usr/sbin/moult-agent run\n") != NULL);
        cr_expect(eq(ptr, (void *)find(items, "/lib/systemd/system/moult-agent.service"), NULL));
        cr_expect(eq(str, (char *)g_hash_table_lookup(f.files, "/etc/init.d/moult-recover"),
                     (char *)"recover script"));
        g_autoptr(GPtrArray) again = plan(&f, &none);
        cr_expect(not(fitting_changes(again)));
}

Test(fitting, other_inits_have_their_way)
{
        g_auto(Fake) sysv = fake_new(), unknown = fake_new();

        put(&sysv, "/etc/rcS.d", "->");
        put(&sysv, "/usr/sbin/update-rc.d", "");
        put(&sysv, "/etc/inittab", "");
        g_autoptr(GPtrArray) items = plan(&sysv, &none);
        const struct fitting_item *run = find(items, "update-rc.d moult-agent defaults");
        cr_assert(run != NULL && run->kind == FITTING_RUN);
        cr_expect(eq(ptr, (void *)find(items, "/etc/inittab"), NULL));
        g_autoptr(GPtrArray) open = plan(&unknown, &none);
        expect(open, "/usr/sbin/moult-agent run", FITTING_KEPT);
}

Test(fitting, a_package_without_scripts_is_refused_where_they_are_needed)
{
        g_auto(Fake) f = fake_new();
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) payload = payload_new();

        put(&f, "/etc/inittab", "");
        g_ptr_array_set_size(payload, (gint)payload->len - 3);
        cr_expect(
                eq(ptr, (void *)fitting_plan(payload, fitting_init(&f.view), &none, &f.view, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
}

Test(fitting, settings_of_the_image_stay_but_for_what_was_asked_for)
{
        g_auto(Fake) f = fake_new();
        const struct template_settings host = {.host = "192.0.2.7:7878", .host_key = "ab"};

        put(&f, "/lib/systemd/systemd", "");
        put(&f, PAYLOAD_CONF, "# mine\n[upgrade]\nworkers=3\n");
        g_autoptr(GPtrArray) kept = plan(&f, &none);
        expect(kept, PAYLOAD_CONF, FITTING_KEPT);
        g_autoptr(GPtrArray) items = plan(&f, &host);
        expect(items, PAYLOAD_CONF, FITTING_CHANGED);
        apply(&f, items);
        const char *text = g_hash_table_lookup(f.files, PAYLOAD_CONF);
        cr_expect(strstr(text, "# mine") && strstr(text, "workers=3") && strstr(text, "host=192.0.2.7:7878"),
                  "%s", text);
        cr_expect(eq(str, (char *)g_hash_table_lookup(f.files, "/var/lib/moult/tls/host.pin"),
                     (char *)"[host]\nfingerprint=ab\n"));
        cr_expect(eq(uint, find(items, "/var/lib/moult/tls/host.pin")->mode, 0600));
        cr_expect(eq(uint, find(items, "/var/lib/moult")->mode, 0700));
        g_autoptr(GPtrArray) again = plan(&f, &host);
        cr_expect(not(fitting_changes(again)));
}

Test(fitting, a_key_is_put_in_and_never_over_another_one)
{
        g_auto(Fake) f = fake_new();
        g_autoptr(GBytes) data = g_bytes_new_static("KEY", 3);
        struct template_key key = {(char *)"release.pub", data};
        g_autoptr(GPtrArray) keys = g_ptr_array_new();
        const struct template_settings s = {.keys = keys};
        g_autoptr(GError) error = NULL;

        g_ptr_array_add(keys, &key);
        put(&f, "/lib/systemd/systemd", "");
        g_autoptr(GPtrArray) items = plan(&f, &s);
        expect(items, "/etc/moult/trusted.d/release.pub", FITTING_NEW);
        put(&f, "/etc/moult/trusted.d/release.pub", "OTHER");
        g_autoptr(GPtrArray) payload = payload_new();
        cr_expect(eq(ptr, (void *)fitting_plan(payload, TEMPLATE_SYSTEMD, &s, &f.view, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED));
}

Test(fitting, what_is_one_machines_goes_and_history_is_told)
{
        g_auto(Fake) f = fake_new();

        put(&f, "/lib/systemd/systemd", "");
        put(&f, "/var/lib/moult/tls/identity.pem", "private");
        put(&f, "/var/lib/moult/generations", "->");
        g_autoptr(GPtrArray) items = plan(&f, &none);
        cr_expect(eq(int, (int)find(items, "/var/lib/moult/tls/identity.pem")->kind, (int)FITTING_REMOVE));
        expect(items, "/var/lib/moult/generations", FITTING_KEPT);
}
