/* tests/fuzz/fuzz_target.c - any bytes as the record of a target, under a right digest: what is taken can be
 * looked up, named, composed over and written again. */
#include <stdint.h>
#include <string.h>

#include "common/digest.h"
#include "fuse-overlay/merge_plan.h"
#include "tests/support/targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const Target *t)
{
        char name[TARGET_OBJECT_NAME_LENGTH + 1], id[TARGET_ID_LENGTH + 1];
        for (guint i = 0; i < target_size(t); i++) {
                struct target_item item = target_get(t, i), found;
                guint first, n = target_below(t, item.path, &first);
                g_assert(target_lookup(t, item.path, &found) && found.entry == item.entry);
                g_assert(first == i && n >= 1);
                target_object_name(item.entry, name);
        }
        for (guint i = 0; i < target_n_merges(t); i++) {
                struct target_merge m = target_get_merge(t, i);
                target_id(t, &m, id);
        }
        g_autoptr(MergePlan) p = merge_plan(t, NULL, 0);
        g_autofree char *text = merge_plan_text(p, t);
        g_assert(g_utf8_validate(text, -1, NULL));
        g_autoptr(Target) merged =
                target_with_merges(t, (const struct target_merge *)(void *)p->merges->data, p->merges->len);
        g_autofree char *why = target_refusal(merged);
        g_assert(why == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        guint8 *record = g_malloc(DIGEST_SIZE + size);
        if (size > 0)
                memcpy(record + DIGEST_SIZE, data, size);
        g_autoptr(Hasher) h = hasher_new();
        hasher_sha256(h, record + DIGEST_SIZE, size, record);
        g_autoptr(GBytes) bytes = g_bytes_new_take(record, DIGEST_SIZE + size);
        g_autoptr(Target) t = target_parse(bytes, NULL);
        if (t == NULL)
                return 0;
        use(t);
        /* A release over it: a deletion, and a file, wherever it is easy to meet something. */
        g_autoptr(Changes) c = changes_new();
        if (target_size(t) > 0)
                changes_delete(c, target_get(t, target_size(t) / 2).path);
        changes_file(c, "usr/a/b", "x");
        g_autoptr(Target) next = targets_compose(t, 7, c);
        g_autoptr(GBytes) again = target_serialise(next);
        g_autoptr(Target) same = target_parse(again, NULL);
        struct target_item found;
        g_assert(target_lookup(next, "usr/a/b", &found));
        g_assert(same == NULL || target_size(same) == target_size(next));
        return 0;
}
