/* host-service/cli/drift_release.c - what a VM's releases have put where. */
#include "host-service/cli/drift_release.h"

#include <string.h>
#include <sys/stat.h>

#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "proto/message.h"

#define PAGE 1000

struct word {
        char *release;
        JsonObject *entry;
};

struct DriftReleases {
        GHashTable *words; /* path, as the API writes it -> struct word */
};

static void word_free(gpointer data)
{
        struct word *w = data;

        g_free(w->release);
        json_object_unref(w->entry);
        g_free(w);
}

void drift_releases_free(DriftReleases *d)
{
        if (!d)
                return;
        g_hash_table_unref(d->words);
        g_free(d);
}

/* The newer release was here before: its word stays. */
static void take_entry(DriftReleases *d, const char *release, JsonObject *entry)
{
        const char *path = json_text(entry, "path");
        struct word *w;

        if (!path || g_hash_table_contains(d->words, path))
                return;
        w = g_new(struct word, 1);
        *w = (struct word){g_strdup(release), json_object_ref(entry)};
        g_hash_table_insert(d->words, g_strdup(path), w);
}

static gboolean take_release(DriftReleases *d, Client *c, const char *release, GError **error)
{
        const char *space = strchr(release, ' ');
        g_autofree char *name = space ? g_strndup(release, (gsize)(space - release)) : g_strdup(release);
        g_autofree char *path = client_path("/v1/releases/%s/%s", name, space ? space + 1 : "");

        for (gint64 first = 0;;) {
                g_autofree char *page_path = g_strdup_printf(
                        "%s?entries=true&count=%d&first=%" G_GINT64_FORMAT, path, PAGE, first);
                g_autoptr(JsonNode) page = client_get(c, page_path, error);
                JsonObject *o = page && JSON_NODE_HOLDS_OBJECT(page) ? json_node_get_object(page) : NULL;
                JsonArray *entries = o ? json_list(o, "entries") : NULL;
                guint n = entries ? json_array_get_length(entries) : 0;

                if (!page)
                        return FALSE;
                for (guint i = 0; i < n; i++)
                        take_entry(d, release, json_array_get_object_element(entries, i));
                first += n;
                if (n == 0 || first >= json_number(o, "total"))
                        return TRUE;
        }
}

DriftReleases *drift_releases_new(Client *c, const char *vm, GPtrArray *notes, GError **error)
{
        g_autofree char *path = client_path("/v1/vms/%s/history", vm);
        g_autoptr(JsonNode) answer = client_get(c, path, error);
        g_autoptr(DriftReleases) d = g_new0(DriftReleases, 1);
        JsonArray *generations;

        d->words = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, word_free);
        if (!answer)
                return NULL;
        generations = JSON_NODE_HOLDS_OBJECT(answer) ? json_list(json_node_get_object(answer), "generations")
                                                     : NULL;
        for (guint i = 0; generations && i < json_array_get_length(generations); i++) {
                JsonObject *g = json_array_get_object_element(generations, i);
                const char *release = json_text(g, "release");
                g_autoptr(GError) own = NULL;

                if (!release || g_strcmp0(json_text(g, "phase"), "committed") != 0 ||
                    take_release(d, c, release, &own))
                        continue;
                g_ptr_array_add(notes,
                                g_strdup_printf("release %s, which the VM has taken, cannot be compared: %s",
                                                release, own->message));
        }
        return g_steal_pointer(&d);
}

/* A hard link's are those of the file's first name, a symbolic link has no mode of its own. */
static gboolean has_metadata(JsonObject *entry, const char *type, const struct tree_node *n)
{
        const char *mode = json_text(entry, "mode");

        if (!g_strcmp0(type, "hardlink"))
                return TRUE;
        return json_number(entry, "uid") == n->uid && json_number(entry, "gid") == n->gid &&
               (S_ISLNK(n->mode) || (mode && g_ascii_strtoull(mode, NULL, 8) == (n->mode & 07777)));
}

static gboolean is_as_released(JsonObject *entry, const BuildTree *live, gssize index)
{
        const char *type = json_text(entry, "type"), *digest = json_text(entry, "digest");
        char hex[2 * DIGEST_SIZE + 1];

        if (index < 0)
                return g_strcmp0(type, "delete") == 0;
        const struct tree_node *n = build_tree_node(live, (unsigned)index);
        const struct tree_node *first = build_tree_node(live, n->leader);
        if (S_ISREG(n->mode) && first->has_digest)
                digest_to_hex(first->digest, hex);
        if (!has_metadata(entry, type, n))
                return FALSE;
        if (!g_strcmp0(type, "file"))
                return S_ISREG(n->mode) && first->has_digest && !g_strcmp0(digest, hex);
        if (!g_strcmp0(type, "hardlink"))
                return S_ISREG(n->mode);
        if (!g_strcmp0(type, "directory"))
                return S_ISDIR(n->mode);
        if (!g_strcmp0(type, "symlink"))
                return S_ISLNK(n->mode) && !g_strcmp0(json_text(entry, "link_target"), n->link_text);
        return g_strcmp0(type, "delete") != 0 && !S_ISREG(n->mode) && !S_ISDIR(n->mode) && !S_ISLNK(n->mode);
}

const char *drift_releases_judge(const DriftReleases *d, const char *path, const BuildTree *live,
                                 gssize index, gboolean *ret_as_released)
{
        g_autofree char *shown = message_string(message_bytes(path));
        const struct word *w = g_hash_table_lookup(d->words, shown);

        *ret_as_released = w && is_as_released(w->entry, live, index);
        return w ? w->release : NULL;
}

void drift_releases_foreach(const DriftReleases *d, void (*func)(const char *path, gpointer user),
                            gpointer user)
{
        GHashTableIter i;
        gpointer path;

        for (g_hash_table_iter_init(&i, d->words); g_hash_table_iter_next(&i, &path, NULL);)
                func(path, user);
}
