/* tests/unit/test_store_needs.c - why a release stays, and which files belong to somebody. */
#include "host-service/store/needs.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/catalogue/json.h"
#include "tests/support/host_world.h"

TestSuite(store_needs, .timeout = 60);

/* A guest side that has a window with the pack whose digest begins with this byte. */
static char *mapped_by(gpointer self, const guint8 digest[static 32])
{
        return digest[0] == GPOINTER_TO_UINT(self) ? g_strdup("web-9") : NULL;
}
static const struct guest_view_ops view_ops = {.mapped_by = mapped_by};

static const char *const none[] = {NULL};

struct fixture {
        HostWorld *w;
        Catalogue *c;
};

/* app 1 to app @n, with digests of these bytes, and VM web-1. */
static struct fixture up(guint n)
{
        struct fixture f = {.w = host_world_new()};

        f.c = host_world_catalogue(f.w);
        host_world_add_vm(f.c, "web-1");
        for (guint i = 1; i <= n; i++) {
                g_autofree char *version = g_strdup_printf("%u", i);

                host_world_add_release(f.c, "app", version, (guint8)i, i, none);
        }
        return f;
}

static void down(struct fixture *f)
{
        catalogue_close(f->c);
        host_world_free(f->w);
}

/* "9: newest; 3: on web-1, back web-1" */
static char *reasons(struct fixture *f, guint8 mapped, guint keep, guint ways_back)
{
        const struct guest_view view = {&view_ops, GUINT_TO_POINTER(mapped)};
        g_autoptr(GError) error = NULL;
        g_autoptr(StoreNeeds) n = store_needs_look(f->c, &view, keep, ways_back, &error);
        GString *s = g_string_new(NULL);
        const GPtrArray *releases;

        cr_assert(ne(ptr, n, NULL), "%s", error ? error->message : "");
        releases = store_needs_releases(n);
        for (guint i = 0; i < releases->len; i++) {
                g_autoptr(JsonArray) why = store_needs_why(n, i);

                g_string_append_printf(s, "%s%s:", s->len ? "; " : "",
                                       ((const ReleaseRecord *)releases->pdata[i])->version);
                for (guint k = 0; why && k < json_array_get_length(why); k++) {
                        JsonObject *o = json_array_get_object_element(why, k);

                        g_string_append_printf(s, " %s", json_object_get_string_member(o, "use"));
                        if (json_object_has_member(o, "vm"))
                                g_string_append_printf(s, " %s", json_object_get_string_member(o, "vm"));
                }
        }
        return g_string_free(s, FALSE);
}

/* A push that ended well, or (state CONNECT) goes on; @n orders them. */
static void push(struct fixture *f, const char *vm, guint8 release, PushState state, guint n)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *id = g_strdup_printf("01ARZ3NDEKTSV4RRFFQ690%04u", n);
        PushRecord r = {.operation = id, .vm = (char *)vm, .release_name = (char *)"app"};
        g_autofree char *version = g_strdup_printf("%u", release);

        r.release_version = version;
        memset(r.digest, release, sizeof r.digest);
        memset(r.push_id, (int)n, sizeof r.push_id);
        cr_assert(catalogue_operation_add(f->c, id, "push", "{}", &error), "%s", error ? error->message : "");
        cr_assert(catalogue_push_add(f->c, &r, &error), "%s", error ? error->message : "");
        r.state = state;
        r.generation = state == PUSH_STATE_DONE ? n : 0;
        cr_assert(catalogue_push_update(f->c, &r, &error), "%s", error ? error->message : "");
}

Test(store_needs, the_newest_of_a_name_stay)
{
        struct fixture f = up(4);

        host_world_add_release(f.c, "lib", "7", 70, 1, none);
        g_autofree char *two = reasons(&f, 0, 2, 8), *nothing = reasons(&f, 0, 0, 8);
        cr_expect(eq(str, two, "4: newest; 3: newest; 2:; 1:; 7: newest"));
        cr_expect(eq(str, nothing, "4:; 3:; 2:; 1:; 7:"));
        down(&f);
}

Test(store_needs, what_a_vm_is_on_stays_by_its_full_name)
{
        struct fixture f = up(12);
        g_autofree char *whole = NULL, *selected = NULL;

        cr_assert(catalogue_vm_set_release(f.c, "web-1", "app 12", NULL));
        whole = reasons(&f, 0, 0, 8);
        cr_expect(g_str_has_prefix(whole, "12: on web-1; 11:; "), "%s", whole);
        cr_expect(g_str_has_suffix(whole, "; 2:; 1:"), "%s", whole); /* 1 and 12 are two versions */
        cr_assert(catalogue_vm_set_release(f.c, "web-1", "app 1 (selected files)", NULL));
        selected = reasons(&f, 0, 0, 8);
        cr_expect(g_str_has_suffix(selected, "; 2:; 1: on web-1"), "%s", selected);
        down(&f);
}

Test(store_needs, pushes_and_the_ways_back_of_each_vm_stay)
{
        struct fixture f = up(6);
        g_autofree char *one = NULL, *two = NULL;

        host_world_add_vm(f.c, "web-2");
        push(&f, "web-1", 1, PUSH_STATE_DONE, 1);
        push(&f, "web-1", 2, PUSH_STATE_DONE, 2);
        push(&f, "web-1", 2, PUSH_STATE_DONE, 3); /* the same again: one way back */
        push(&f, "web-1", 3, PUSH_STATE_FAILED, 4);
        push(&f, "web-2", 4, PUSH_STATE_DONE, 5);
        push(&f, "web-2", 5, PUSH_STATE_CONNECT, 6);
        push(&f, "gone", 6, PUSH_STATE_DONE, 7);
        one = reasons(&f, 0, 0, 1);
        two = reasons(&f, 0, 0, 2);
        cr_expect(eq(str, one, "6:; 5: push web-2; 4: back web-2; 3:; 2: back web-1; 1:"));
        cr_expect(eq(str, two, "6:; 5: push web-2; 4: back web-2; 3:; 2: back web-1; 1: back web-1"));
        down(&f);
}

Test(store_needs, a_mapped_window_keeps_its_pack)
{
        struct fixture f = up(3);
        g_autofree char *why = reasons(&f, 2, 0, 0);

        cr_expect(eq(str, why, "3:; 2: window web-9; 1:"));
        down(&f);
}

Test(store_needs, a_file_of_an_operation_that_goes_on_is_nobodys_left_over)
{
        struct fixture f = up(1);
        const struct guest_view view = {&view_ops, NULL};
        const char *id = "01ARZ3NDEKTSV4RRFFQ690001A", *ended = "01ARZ3NDEKTSV4RRFFQ690002A";
        g_autoptr(StoreNeeds) n = NULL;
        g_autofree char *own = NULL;

        cr_assert(catalogue_operation_add(f.c, id, "release-import", "{}", NULL));
        cr_assert(catalogue_operation_add(f.c, ended, "release-import", "{}", NULL));
        cr_assert(catalogue_operation_set_state(f.c, ended, OPERATION_CANCELLED, NULL, NULL, NULL));
        n = store_needs_look(f.c, &view, 0, 0, NULL);
        cr_assert(ne(ptr, n, NULL));
        own = g_strdup(((const ReleaseRecord *)store_needs_releases(n)->pdata[0])->file);
        cr_expect(store_needs_file(n, own));
        cr_expect(store_needs_file(n, "importing-01ARZ3NDEKTSV4RRFFQ690001A.tmp"));
        cr_expect(store_needs_file(n, "app-2-01ARZ3NDEKTSV4RRFFQ690001A.moult"));
        cr_expect(not(store_needs_file(n, "app-2-01ARZ3NDEKTSV4RRFFQ690002A.moult")));
        cr_expect(not(store_needs_file(n, "lost.moult")));
        down(&f);
}
