/* host-service/store/needs.c - the catalogue's rows and the guests' windows, put together. */
#include "host-service/store/needs.h"

#include <string.h>

#include "host-service/catalogue/operations.h"
#include "host-service/store/check.h"

struct StoreNeeds {
        GPtrArray *releases, *users, *operations;
        guint keep;
};

void store_needs_free(StoreNeeds *n)
{
        if (!n)
                return;
        g_clear_pointer(&n->releases, g_ptr_array_unref);
        g_clear_pointer(&n->users, g_ptr_array_unref);
        g_clear_pointer(&n->operations, g_ptr_array_unref);
        g_free(n);
}

static void add_windows(StoreNeeds *n, const struct guest_view *guests)
{
        for (guint i = 0; i < n->releases->len; i++) {
                const ReleaseRecord *r = n->releases->pdata[i];
                char *vm = guests->ops->mapped_by(guests->self, r->digest);
                ReleaseUser *u;

                if (!vm)
                        continue;
                u = g_new0(ReleaseUser, 1);
                u->release = r->id;
                u->use = RELEASE_USE_WINDOW;
                u->vm = vm;
                g_ptr_array_add(n->users, u);
        }
}

StoreNeeds *store_needs_look(Catalogue *c, const struct guest_view *guests, guint keep, guint ways_back,
                             GError **error)
{
        g_autoptr(StoreNeeds) n = g_new0(StoreNeeds, 1);

        n->keep = keep;
        n->releases = catalogue_release_list(c, NULL, error);
        if (n->releases)
                n->users = catalogue_release_users(c, ways_back, error);
        if (n->users)
                n->operations = catalogue_operation_unfinished(c, error);
        if (!n->operations)
                return NULL;
        add_windows(n, guests);
        return g_steal_pointer(&n);
}

const GPtrArray *store_needs_releases(const StoreNeeds *n)
{
        return n->releases;
}

const GPtrArray *store_needs_users(const StoreNeeds *n)
{
        return n->users;
}

static void add_why(JsonArray *a, const char *use, const char *vm)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "use", use);
        if (vm)
                json_object_set_string_member(o, "vm", vm);
        json_array_add_object_element(a, o);
}

/* How many versions of the same name come before it. */
static guint place(const StoreNeeds *n, guint index)
{
        const ReleaseRecord *r = n->releases->pdata[index];
        guint before = 0;

        while (before < index &&
               g_str_equal(((const ReleaseRecord *)n->releases->pdata[index - before - 1])->name, r->name))
                before++;
        return before;
}

JsonArray *store_needs_why(const StoreNeeds *n, guint index)
{
        const ReleaseRecord *r = n->releases->pdata[index];
        g_autoptr(JsonArray) a = json_array_new();

        for (guint i = 0; i < n->users->len; i++) {
                const ReleaseUser *u = n->users->pdata[i];

                if (u->release == r->id)
                        add_why(a, release_use_name(u->use), u->vm);
        }
        if (place(n, index) < n->keep)
                add_why(a, "newest", NULL);
        return json_array_get_length(a) > 0 ? g_steal_pointer(&a) : NULL;
}

gboolean store_needs_file(const StoreNeeds *n, const char *file)
{
        if (store_file_is_known(n->releases, file))
                return TRUE;
        /* What an import writes has its operation's id in the name (release/import.h). */
        for (guint i = 0; i < n->operations->len; i++)
                if (strstr(file, ((const OperationRecord *)n->operations->pdata[i])->id))
                        return TRUE;
        return FALSE;
}
