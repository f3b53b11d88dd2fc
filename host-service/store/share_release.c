/* host-service/store/share_release.c - what a push and a pull of a release have in common. */
#include "host-service/store/chunk_file.h"
#include "host-service/store/share_task.h"

gpointer release_task_new(Share *s, const OperationRecord *op, gsize size,
                          void (*clear)(struct share_task *t), const char *verb)
{
        g_autoptr(JsonObject) o = share_request(op);
        const char *name = json_object_get_string_member(o, "release"),
                   *version = json_object_get_string_member(o, "version");
        struct release_task *t =
                share_task_new(s, op, size, clear, g_strdup_printf("%s %s %s", verb, name, version));

        t->name = g_strdup(name);
        t->version = g_strdup(version);
        t->refs = g_array_new(FALSE, FALSE, sizeof(struct chunk_ref));
        return t;
}

void release_task_clear(struct release_task *t)
{
        g_clear_pointer(&t->refs, g_array_unref);
        g_clear_pointer(&t->unique, g_array_unref);
        g_clear_pointer(&t->same, g_array_unref);
        g_free(t->name);
        g_free(t->version);
}

void release_task_find_unique(struct release_task *t)
{
        g_autoptr(GHashTable) last =
                g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);

        t->unique = g_array_new(FALSE, FALSE, sizeof(guint));
        t->same = g_array_sized_new(FALSE, TRUE, sizeof(guint), t->refs->len);
        g_array_set_size(t->same, t->refs->len);
        for (guint i = 0; i < t->refs->len; i++) {
                const struct chunk_ref *r = &g_array_index(t->refs, struct chunk_ref, i);
                GBytes *id = g_bytes_new(r->id, sizeof r->id);
                gpointer before;

                if (g_hash_table_lookup_extended(last, id, NULL, &before))
                        g_array_index(t->same, guint, GPOINTER_TO_UINT(before)) = i;
                else
                        g_array_append_val(t->unique, i);
                g_hash_table_replace(last, id, GUINT_TO_POINTER(i));
        }
}

gsize release_task_ref_len(const struct release_task *t, guint ref)
{
        return (gsize)(g_array_index(t->refs, struct chunk_ref, ref).end - chunk_begin(t->refs, ref));
}

void release_task_count_moved(struct release_task *t, gsize bytes)
{
        __atomic_add_fetch(&t->moved, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&t->moved_bytes, (gint64)bytes, __ATOMIC_RELAXED);
}

JsonObject *release_task_counts(const struct release_task *t)
{
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "release", t->name);
        json_object_set_string_member(o, "version", t->version);
        json_object_set_string_member(o, "store", t->task.owner->objects->name);
        json_object_set_int_member(o, "chunks", t->unique ? t->unique->len : 0);
        json_object_set_int_member(o, "moved", t->moved);
        json_object_set_int_member(o, "moved_bytes", t->moved_bytes);
        return o;
}
