/* tests/unit/test_guest_agent_upgrade_fill.c - what is to be copied follows from the target, the store and
 * the list alone. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/upgrade/fill.h"
#include "guest-agent/upgrade/moment.h"
#include "tests/support/targets.h"
#include "tests/support/tempdir.h"

static void init(void)
{
        if (geteuid() != 0)
                cr_skip_test("needs root: owners");
}
TestSuite(fill, .timeout = 60, .init = init);

/* usr/a and usr/b differ in their mode alone, usr/c is another file, usr/d a second name of it; usr/dir is
 * none. The list has them all, and one file more. */
struct world {
        TempDir *dir;
        ObjectStore *store;
        Changes *changes;
        Target *target;
        Manifest manifest;
        Moult__Entry *entries[6];
};

static void world_init(struct world *w)
{
        static const char *const texts[] = {"one", "one", "other", "other", NULL, "not merged"};
        *w = (struct world){.dir = tempdir_new(), .changes = changes_new()};
        w->store = object_store_open(w->dir->fd, NULL);
        moult__manifest__init(&w->manifest);
        for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
                g_autofree char *path = g_strdup_printf("usr/%c", "abcdef"[i]);
                struct target_change *c = texts[i] != NULL ? changes_file(w->changes, path, texts[i])
                                                           : changes_directory(w->changes, path);
                w->entries[i] = changes_entry(c);
        }
        w->entries[1]->mode = 04755;
        w->manifest.entries = w->entries;
        w->manifest.n_entries = G_N_ELEMENTS(w->entries);
        g_array_set_size(w->changes->changes, G_N_ELEMENTS(texts) - 1);
        w->target = targets_compose(NULL, 1, w->changes);
}

static void world_clear(struct world *w)
{
        target_unref(w->target);
        changes_free(w->changes);
        object_store_free(w->store);
        tempdir_free(w->dir);
}

/* "0:usr/a 1:usr/b": entries that are copied. */
static char *copied(const Plan *p)
{
        GString *s = g_string_new(NULL);
        for (guint i = 0; i < p->n_entries; i++)
                if (p->entries[i].seen != NULL)
                        g_string_append_printf(s, "%s%u:%s", s->len > 0 ? " " : "", i, p->entries[i].path);
        return g_string_free(s, FALSE);
}

static const Moult__Entry *item(struct world *w, const char *path)
{
        struct target_item i;
        cr_assert(target_lookup(w->target, path, &i));
        return i.entry;
}

Test(fill, each_missing_object_is_copied_once_with_the_targets_metadata)
{
        struct world w;
        struct fill_totals totals;
        g_autoptr(GError) error = NULL;
        world_init(&w);
        g_autoptr(Plan) p = fill_plan_new(&w.manifest, w.target, w.store, 1, &totals, &error);
        cr_assert_not_null(p, "%s", error != NULL ? error->message : "");
        g_autofree char *what = copied(p);
        cr_expect(eq(str, what, "0:usr/a 1:usr/b 2:usr/c"));
        cr_expect(eq(u32, p->entries[1].seen->mode, 04755));
        cr_expect(eq(u64, totals.bytes, 3 + 3 + 5));
        cr_expect(eq(u64, totals.bytes_missing, 3 + 3 + 5));
        for (guint i = 0; i < p->n_entries; i++)
                cr_expect(eq(int, p->entries[i].deferred, p->entries[i].seen != NULL));
        world_clear(&w);
}

Test(fill, what_the_store_has_is_left_alone)
{
        struct world w;
        struct fill_totals totals;
        world_init(&w);
        targets_put_object(w.store, item(&w, "usr/a"), "one", w.dir->fd);
        targets_put_object(w.store, item(&w, "usr/d"), "other", w.dir->fd);
        g_autoptr(Plan) p = fill_plan_new(&w.manifest, w.target, w.store, 1, &totals, NULL);
        g_autofree char *what = copied(p);
        cr_expect(eq(str, what, "0:usr/b"), "from the first file of that content");
        cr_expect(eq(u32, p->entries[0].seen->mode, 04755));
        cr_expect(eq(u64, totals.bytes_missing, 3));
        world_clear(&w);
}

Test(fill, a_file_that_neither_has_is_named)
{
        struct world w;
        struct fill_totals totals;
        g_autoptr(GError) error = NULL;
        world_init(&w);
        w.manifest.n_entries = 2;
        cr_expect_null(fill_plan_new(&w.manifest, w.target, w.store, 1, &totals, &error));
        cr_expect(eq(int, (int)moult_error_code(error), MOULT_ERROR_NOT_FOUND));
        cr_expect_not_null(strstr(error->message, "/usr/c"), "%s", error->message);
        world_clear(&w);
}

Test(fill, a_moment_is_read_back_and_measured_from)
{
        struct moment a, b;
        moment_now(&a);
        g_autofree char *text = moment_text(&a);
        g_autofree char *more = g_strconcat(text, ", 17 bytes", NULL);
        cr_assert(moment_parse(more, &b));
        cr_expect(moment_is_same_boot(&a, &b) && a.ms == b.ms);
        b.ms += 400;
        cr_expect(eq(u64, moment_left_ms(&a, &b, 1000), 600));
        cr_expect(eq(u64, moment_left_ms(&a, &b, 300), 0));
        cr_expect(eq(u64, moment_left_ms(&b, &a, 1000), 1000),
                  "a clock that went back is no time that passed");
        cr_expect(moment_parse("-", &b) == FALSE && moment_parse("boot x at y ms", &b) == FALSE);
        b.boot[0] ^= 1;
        cr_expect(not(moment_is_same_boot(&a, &b)));
}
