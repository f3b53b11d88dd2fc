/* tests/unit/test_fuse_overlay_target.c - composition: what is seen after any history of releases; and the
 * record of it. */
#include <criterion/criterion.h>
#include <string.h>

#include "common/digest.h"
#include "common/error.h"
#include "tests/support/targets.h"

TestSuite(target, .timeout = 60);

static void expect_items(const Target *t, const char *want)
{
        g_autofree char *have = targets_text(t), *why = target_refusal(t);
        cr_expect_str_eq(have, want);
        cr_expect_null(why, "%s", why);
}

/* --- order */

Test(target, what_lies_below_a_directory_directly_follows_it)
{
        static const char *const paths[] = {"a",   "a/b",   "a/b/c", "a/b\n", "a/b!", "a!",
                                            "a-b", "a-b/c", "a.b",   "ab",    "a\xff"};
        for (guint i = 0; i + 1 < G_N_ELEMENTS(paths); i++) {
                cr_expect_lt(target_path_compare(paths[i], paths[i + 1]), 0, "%s %s", paths[i], paths[i + 1]);
                cr_expect_gt(target_path_compare(paths[i + 1], paths[i]), 0, "%s %s", paths[i], paths[i + 1]);
                cr_expect_eq(target_path_compare(paths[i], paths[i]), 0);
        }
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/a-b", "1");
        changes_directory(c, "usr/a");
        changes_file(c, "usr/a/b", "1");
        changes_file(c, "usr/a/z", "1");
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        guint first;
        cr_expect_eq(target_below(t, "usr/a", &first), 3u);
        cr_expect_eq(first, 0u);
        cr_expect_eq(target_below(t, "usr/a-b", &first), 1u);
        cr_expect_eq(target_below(t, "usr/aa", &first), 0u);
        cr_expect_eq(target_below(t, "usr/a/b", &first), 1u);
        cr_expect_eq(target_below(t, "", &first), 4u);
        cr_expect_eq(target_below(t, "usr", &first), 4u);
        struct target_item item;
        cr_expect(target_lookup(t, "usr/a/z", &item));
        cr_expect_str_eq(item.path, "usr/a/z");
        cr_expect(!target_lookup(t, "usr", &item));
        cr_expect(!target_lookup(t, "usr/a/zz", &item));
}

/* --- composition */

Test(target, a_newer_item_takes_the_place_of_an_older_one)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new();
        changes_file(one, "usr/a", "old");
        changes_file(one, "usr/b", "old");
        changes_file(two, "usr/b", "newer");
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two);
        expect_items(t2, "file usr/a\nfile usr/b\n");
        cr_expect_eq(target_get(t2, 0).release->generation, 1u);
        cr_expect_eq(target_get(t2, 1).release->generation, 2u);
        cr_expect_eq(target_get(t2, 1).entry->size, 5u);
        cr_expect_eq(target_get(t1, 1).entry->size, 3u);
}

Test(target, many_releases_leave_one_flat_list)
{
        g_autoptr(Target) t = NULL;
        for (guint64 n = 1; n <= 50; n++) {
                g_autoptr(Changes) c = changes_new();
                g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, n);
                changes_file(c, "usr/a", text);
                Target *next = targets_compose(t, n, c);
                g_clear_pointer(&t, target_unref);
                t = next;
        }
        expect_items(t, "file usr/a\n");
        g_autoptr(GBytes) bytes = target_serialise(t);
        cr_expect_lt(g_bytes_get_size(bytes), 250u); /* one release is left */
}

Test(target, a_whiteout_hides_what_lies_below)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new();
        changes_directory(one, "usr/d");
        changes_file(one, "usr/d/a", "1");
        changes_file(one, "usr/d-a", "1");
        changes_delete(two, "usr/d/a");
        changes_delete(two, "usr/d");
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two);
        expect_items(t2, "delete usr/d\nfile usr/d-a\n");
}

/* The original has d/a and d/b: they were deleted, and must not come back with the directory. */
Test(target, a_directory_that_comes_back_is_opaque)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new(), three = changes_new(),
                           four = changes_new();
        changes_delete(one, "usr/d/a");
        changes_delete(one, "usr/d/b");
        changes_delete(one, "usr/d");
        changes_directory(two, "usr/d");
        changes_file(two, "usr/d/c", "1");
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two);
        expect_items(t2, "opaque usr/d\nfile usr/d/c\n");
        cr_expect(target_hides(t2, "usr/d/a"));
        cr_expect(target_hides(t2, "usr/d/a/deeper"));
        cr_expect(!target_hides(t2, "usr/e"));
        /* It stays so, whatever happens to its metadata; and deletions in it need no whiteout. */
        changes_directory(three, "usr/d");
        changes_delete(three, "usr/d/c");
        changes_directory(three, "usr/d/sub");
        g_autoptr(Target) t3 = targets_compose(t2, 3, three);
        expect_items(t3, "opaque usr/d\ndirectory usr/d/sub\n");
        /* Nor is what comes back in it marked: nothing of the original is there. */
        changes_delete(four, "usr/d/sub");
        changes_file(four, "usr/d/x", "1");
        g_autoptr(Target) t4 = targets_compose(t3, 4, four);
        expect_items(t4, "opaque usr/d\nfile usr/d/x\n");
}

Test(target, file_directory_file)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new(), three = changes_new();
        changes_file(one, "usr/d", "1");
        changes_directory(two, "usr/d");
        changes_file(two, "usr/d/a", "1");
        changes_delete(three, "usr/d/a"); /* goes with the directory */
        changes_file(three, "usr/d", "2");
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two),
                          t3 = targets_compose(t2, 3, three);
        expect_items(t2, "opaque usr/d\nfile usr/d/a\n");
        expect_items(t3, "file usr/d\n");
}

Test(target, a_directory_becomes_a_link_and_one_again)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new(), three = changes_new();
        changes_directory(one, "usr/d");
        changes_file(one, "usr/d/a", "1");
        changes_delete(two, "usr/d/a");
        changes_add(two, MOULT__ENTRY_TYPE__ENTRY_SYMLINK, "usr/d", "e");
        changes_directory(three, "usr/d");
        changes_file(three, "usr/d/b", "1");
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two),
                          t3 = targets_compose(t2, 3, three);
        expect_items(t1, "directory usr/d\nfile usr/d/a\n");
        expect_items(t2, "symlink usr/d\n");
        cr_expect(target_hides(t2, "usr/d/anything"));
        expect_items(t3, "opaque usr/d\nfile usr/d/b\n");
}

Test(target, what_the_original_never_had_leaves_no_whiteout)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new(), three = changes_new();
        changes_file(one, "usr/lib.so.1", "1")->original = MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT;
        changes_directory(one, "usr/d")->original = MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT;
        changes_file(one, "usr/d/a", "1");
        changes_file(two, "usr/lib.so.2", "1")->original = MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT;
        changes_delete(two, "usr/lib.so.1"); /* known from release 1 */
        changes_delete(two, "usr/d");
        changes_delete(three, "usr/lib.so.2");
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two),
                          t3 = targets_compose(t2, 3, three);
        expect_items(t2, "file usr/lib.so.2\n");
        expect_items(t3, "");
}

Test(target, what_is_to_lie_below_a_whiteout_makes_it_a_directory)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new();
        changes_delete(one, "usr/d");
        changes_file(two, "usr/d/e/f", "1");
        changes_delete(two, "usr/d/g");
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two);
        expect_items(t2, "opaque usr/d\nfile usr/d/e/f\n");
}

Test(target, of_two_changes_of_one_path_the_later_counts)
{
        g_autoptr(Changes) c = changes_new();
        changes_file(c, "usr/a", "1");
        changes_file(c, "usr/b", "1");
        changes_delete(c, "usr/a");
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        expect_items(t, "delete usr/a\nfile usr/b\n");
}

Test(target, a_hard_link_is_a_file_with_the_content_of_its_group)
{
        g_autoptr(Changes) c = changes_new();
        const Moult__Entry *file = changes_file(c, "usr/a", "content")->entry;
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_HARDLINK, "usr/b", "")->link_to = file;
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        expect_items(t, "file usr/a\nfile usr/b\n");
        char a[TARGET_OBJECT_NAME_LENGTH + 1], b[TARGET_OBJECT_NAME_LENGTH + 1];
        target_object_name(target_get(t, 0).entry, a);
        target_object_name(target_get(t, 1).entry, b);
        cr_expect_str_eq(a, b);
}

Test(target, metadata_that_is_given_counts_instead_of_the_entrys)
{
        g_autoptr(Changes) c = changes_new();
        g_autoptr(Metadata) m = metadata_new();
        m->mode = 0777;
        m->uid = 7;
        m->mtime.tv_sec = -5;
        metadata_add_xattr(m, "user.z", 6, "1", 1);
        metadata_add_xattr(m, "security.selinux", 16, "label", 6);
        struct target_change *file = changes_file(c, "usr/a", "1");
        changes_xattr(c, file, "user.other", "2", 1);
        file->metadata = m;
        changes_add(c, MOULT__ENTRY_TYPE__ENTRY_SYMLINK, "usr/b", "a")->metadata = m;
        changes_delete(c, "usr/c")->metadata = m;
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        expect_items(t, "file usr/a\nsymlink usr/b\ndelete usr/c\n");
        const Moult__Entry *e = target_get(t, 0).entry;
        cr_expect_eq(e->mode, 0777u);
        cr_expect_eq(e->uid, 7u);
        cr_expect_eq(e->mtime_s, -5);
        cr_assert_eq(e->n_xattrs, 2u);
        cr_expect_str_eq((char *)e->xattrs[0]->name.data, "security.selinux"); /* sorted */
        cr_expect_eq(target_get(t, 1).entry->mode, 0u);
        cr_expect_eq(target_get(t, 2).entry->uid, 0u);
}

/* --- a model: a tree of names, with what is deleted and made applied one by one */

/* A model is a table of paths: 'd', 'f', or 0 for nothing. */
static void model_remove(GHashTable *m, const char *path)
{
        GHashTableIter iter;
        gpointer key;
        g_hash_table_iter_init(&iter, m);
        while (g_hash_table_iter_next(&iter, &key, NULL))
                if (target_path_is_below(key, path))
                        g_hash_table_iter_remove(&iter);
}

static char model_get(GHashTable *m, const char *path)
{
        return (char)GPOINTER_TO_INT(g_hash_table_lookup(m, path));
}

/* The same by the target over the original. */
static char merged_get(const Target *t, GHashTable *original, const char *path)
{
        struct target_item item;
        if (target_lookup(t, path, &item)) {
                switch (item.entry->type) {
                case MOULT__ENTRY_TYPE__ENTRY_DELETE:
                        return 0;
                case MOULT__ENTRY_TYPE__ENTRY_DIRECTORY:
                        return 'd';
                default:
                        return 'f';
                }
        }
        return target_hides(t, path) ? 0 : model_get(original, path);
}

Test(target, any_history_shows_what_applying_it_one_by_one_would)
{
        static const char *const paths[] = {"a",   "a/a", "a/a/a", "a/a/b", "a/b", "a/b/a",
                                            "a-b", "b",   "b/a",   "b/a/a", "b/b"};
        for (guint32 seed = 0; seed < 300; seed++) {
                g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
                g_autoptr(GHashTable) original = g_hash_table_new(g_str_hash, g_str_equal);
                g_autoptr(GHashTable) live = g_hash_table_new(g_str_hash, g_str_equal);
                for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
                        g_autofree char *dir = g_path_get_dirname(paths[i]);
                        gboolean place = g_str_equal(dir, ".") || model_get(original, dir) == 'd';
                        gint what = g_rand_int_range(rand, 0, 4);
                        if (!place || what == 0)
                                continue;
                        g_hash_table_insert(original, (gpointer)paths[i],
                                            GINT_TO_POINTER(what == 1 ? 'f' : 'd'));
                        g_hash_table_insert(live, (gpointer)paths[i], GINT_TO_POINTER(what == 1 ? 'f' : 'd'));
                }
                g_autoptr(Target) t = NULL;
                for (guint64 n = 1; n <= 6; n++) {
                        g_autoptr(Changes) c = changes_new();
                        for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
                                g_autofree char *dir = g_path_get_dirname(paths[i]);
                                gboolean place = g_str_equal(dir, ".") || model_get(live, dir) == 'd';
                                gint what = g_rand_int_range(rand, 0, 8);
                                struct target_change *change = NULL;
                                if (what == 0 && model_get(live, paths[i]) != 0) {
                                        model_remove(live, paths[i]);
                                        change = changes_delete(c, paths[i]);
                                } else if (what == 1 && place) {
                                        model_remove(live, paths[i]);
                                        g_hash_table_insert(live, (gpointer)paths[i], GINT_TO_POINTER('f'));
                                        change = changes_file(c, paths[i], "x");
                                } else if (what == 2 && place) {
                                        g_hash_table_insert(live, (gpointer)paths[i], GINT_TO_POINTER('d'));
                                        change = changes_directory(c, paths[i]);
                                }
                                if (change == NULL)
                                        continue;
                                change->mount = "";
                                if (seed % 2 == 0) /* what the original has may be told, or not */
                                        change->original =
                                                model_get(original, paths[i]) == 0
                                                        ? MOULT__TARGET__ORIGINAL__ORIGINAL_ABSENT
                                                : model_get(original, paths[i]) == 'd'
                                                        ? MOULT__TARGET__ORIGINAL__ORIGINAL_DIRECTORY
                                                        : MOULT__TARGET__ORIGINAL__ORIGINAL_OTHER;
                        }
                        Target *next = targets_compose(t, n, c);
                        g_clear_pointer(&t, target_unref);
                        t = next;
                        g_autofree char *why = target_refusal(t), *text = targets_text(t);
                        cr_assert_null(why, "seed %u: %s", seed, why);
                        for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
                                char have = merged_get(t, original, paths[i]),
                                     want = model_get(live, paths[i]);
                                cr_assert_eq(have, want, "seed %u release %u: %s is %c, not %c, in\n%s", seed,
                                             (guint)n, paths[i], have ? have : '-', want ? want : '-', text);
                        }
                }
        }
}

/* --- names */

Test(target, the_name_of_an_object_depends_on_all_that_is_seen_of_it)
{
        g_autoptr(Changes) c = changes_new();
        struct target_change *change = changes_file(c, "usr/a", "1");
        Moult__Entry *e = changes_entry(change);
        g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        char name[TARGET_OBJECT_NAME_LENGTH + 1];
#define EXPECT_NEW()                                                                                         \
        do {                                                                                                 \
                target_object_name(e, name);                                                                 \
                cr_expect(g_hash_table_add(names, g_strdup(name)));                                          \
        } while (0)
        EXPECT_NEW();
        e->mode = 0600;
        EXPECT_NEW();
        e->uid = 1;
        EXPECT_NEW();
        e->uid = 0;
        e->gid = 1;
        EXPECT_NEW();
        e->mtime_s = -1;
        EXPECT_NEW();
        e->mtime_ns = 1;
        EXPECT_NEW();
        e->size++;
        EXPECT_NEW();
        e->digest.data[0] ^= 1;
        EXPECT_NEW();
        changes_xattr(c, change, "user.a", "bc", 2);
        EXPECT_NEW();
        e->n_xattrs = 0;
        changes_xattr(c, change, "user.ab", "c", 1);
        EXPECT_NEW();
        changes_xattr(c, change, "user.aa", "", 0);
        EXPECT_NEW();
        /* Not on the order of attributes, nor on the path. */
        Moult__Xattr *first = e->xattrs[0];
        e->xattrs[0] = e->xattrs[1];
        e->xattrs[1] = first;
        e->path = (ProtobufCBinaryData){1, (guint8 *)"b"};
        target_object_name(e, name);
        cr_expect(g_hash_table_contains(names, name));
}

static void id_of(const Target *t, const char *path, char ret[static TARGET_ID_LENGTH + 1])
{
        struct target_merge m = {path, MOULT__TARGET__REACH__REACH_TREE, NULL};
        target_id(t, &m, ret);
}

Test(target, the_id_of_a_merge_depends_on_what_is_seen_and_not_on_where_it_is_from)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new(), three = changes_new();
        changes_file(one, "usr/lib/a", "1");
        changes_file(one, "usr/share/b", "1");
        changes_file(one, "usr/local/c", "1")->mount = "usr/local";
        changes_file(two, "usr/share/b", "2");
        changes_file(two, "usr/lib/a", "1");
        changes_file(three, "usr/local/c", "3")->mount = "usr/local";
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two),
                          t3 = targets_compose(t1, 3, three);
        char lib1[33], lib2[33], share1[33], share2[33], usr1[33], usr3[33], inner1[33], inner3[33];
        id_of(t1, "usr/lib", lib1);
        id_of(t2, "usr/lib", lib2);
        id_of(t1, "usr/share", share1);
        id_of(t2, "usr/share", share2);
        cr_expect_str_eq(lib1, lib2);
        cr_expect_str_neq(share1, share2);
        cr_expect_str_neq(lib1, share1);
        /* What lies on an inner mount is not the outer merge's. */
        id_of(t1, "usr", usr1);
        id_of(t3, "usr", usr3);
        id_of(t1, "usr/local", inner1);
        id_of(t3, "usr/local", inner3);
        cr_expect_str_eq(usr1, usr3);
        cr_expect_str_neq(inner1, inner3);
}

/* --- the record */

static Target *sample(void)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new();
        changes_file(one, "usr/bin/a\n", "1");
        changes_xattr(one, changes_file(one, "usr/bin/b", ""), "security.capability", "\1\0\0\2", 4);
        changes_delete(one, "usr/d");
        changes_add(two, MOULT__ENTRY_TYPE__ENTRY_SYMLINK, "usr/l", "bin/a");
        changes_directory(two, "usr/d");
        struct target_change *file = changes_file(two, "etc/immutable", "1");
        file->reach = MOULT__TARGET__REACH__REACH_FILE;
        file->mount = "";
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two);
        struct target_merge merges[] = {{"usr", MOULT__TARGET__REACH__REACH_TREE, NULL},
                                        {"etc/immutable", MOULT__TARGET__REACH__REACH_FILE, NULL}};
        return target_with_merges(t2, merges, 2);
}

Test(target, what_is_written_is_read)
{
        g_autoptr(Target) t = sample();
        g_autofree char *why = target_refusal(t);
        cr_assert_null(why, "%s", why);
        g_autoptr(GBytes) bytes = target_serialise(t);
        g_autoptr(GError) error = NULL;
        g_autoptr(Target) again = target_parse(bytes, &error);
        cr_assert_not_null(again, "%s", error != NULL ? error->message : "");
        g_autoptr(GBytes) same = target_serialise(again);
        cr_expect(g_bytes_equal(bytes, same));
        g_autofree char *text = targets_text(again);
        cr_expect_str_eq(
                text, "file etc/immutable\nfile usr/bin/a\n\nfile usr/bin/b\nopaque usr/d\nsymlink usr/l\n");
        cr_assert_eq(target_n_merges(again), 2u);
        cr_expect_str_eq(target_get_merge(again, 0).path, "etc/immutable");
        cr_expect_str_eq(target_get_merge(again, 0).mount, "");
        cr_expect_str_eq(target_get_merge(again, 1).mount, "usr");
        cr_expect_str_eq(target_get(again, 0).mount, "");
        cr_expect_eq(target_get(again, 1).release->generation, 1u);
}

Test(target, an_empty_target_is_one)
{
        g_autoptr(Changes) none = changes_new();
        g_autoptr(Target) t = targets_compose(NULL, 1, none);
        g_autoptr(GBytes) bytes = target_serialise(t);
        g_autoptr(GError) error = NULL;
        g_autoptr(Target) again = target_parse(bytes, &error);
        cr_assert_not_null(again);
        cr_expect_eq(target_size(again), 0u);
}

Test(target, any_damaged_byte_is_seen)
{
        g_autoptr(Target) t = sample();
        g_autoptr(GBytes) bytes = target_serialise(t);
        gsize len;
        const guint8 *data = g_bytes_get_data(bytes, &len);
        g_autofree guint8 *copy = g_memdup2(data, len);
        for (gsize i = 0; i < len; i++) {
                g_autoptr(GError) error = NULL;
                copy[i] ^= 0x20;
                g_autoptr(GBytes) bad = g_bytes_new_static(copy, len), cut = g_bytes_new_static(data, i);
                cr_expect_null(target_parse(bad, &error), "byte %zu", i);
                cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
                cr_expect_null(target_parse(cut, NULL), "cut at %zu", i);
                copy[i] ^= 0x20;
        }
}

/* A record with a right digest, whatever is in it. */
static char *parse_refusal(const Moult__Target__Target *record)
{
        gsize len = moult__target__target__get_packed_size(record);
        guint8 *data = g_malloc(DIGEST_SIZE + len);
        moult__target__target__pack(record, data + DIGEST_SIZE);
        g_autoptr(Hasher) h = hasher_new();
        hasher_sha256(h, data + DIGEST_SIZE, len, data);
        g_autoptr(GBytes) bytes = g_bytes_new_take(data, DIGEST_SIZE + len);
        g_autoptr(GError) error = NULL;
        g_autoptr(Target) t = target_parse(bytes, &error);
        if (t != NULL)
                return g_strdup("");
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
        return g_strdup(error->message);
}

static ProtobufCBinaryData bytes_of(const char *s)
{
        return (ProtobufCBinaryData){strlen(s), (guint8 *)s};
}

/* A good record of a directory and a file, for each rule spoilt in one way. */
struct record {
        Moult__Target__Target target;
        Moult__Target__Release release, *releases[2];
        Moult__Target__Item items[3], *item_list[3];
        Moult__Entry entries[3];
        Moult__Target__Merge merges[2], *merge_list[2];
        Moult__Xattr xattr, *xattrs[1];
};

static void record_init(struct record *r)
{
        static guint8 digest[DIGEST_SIZE];
        static const char *const paths[] = {"usr/d", "usr/d/f", "usr/z"};
        moult__target__target__init(&r->target);
        moult__target__release__init(&r->release);
        moult__xattr__init(&r->xattr);
        r->xattr.name = bytes_of("user.a");
        r->xattrs[0] = &r->xattr;
        r->release.name = bytes_of("app 1");
        r->release.manifest_digest = (ProtobufCBinaryData){DIGEST_SIZE, digest};
        r->releases[0] = r->releases[1] = &r->release;
        for (guint i = 0; i < 3; i++) {
                moult__target__item__init(&r->items[i]);
                moult__entry__init(&r->entries[i]);
                r->items[i].entry = &r->entries[i];
                r->items[i].mount = bytes_of("usr");
                r->entries[i].path = bytes_of(paths[i]);
                r->entries[i].type = MOULT__ENTRY_TYPE__ENTRY_DIRECTORY;
                r->item_list[i] = &r->items[i];
        }
        r->entries[1].type = MOULT__ENTRY_TYPE__ENTRY_FILE;
        r->entries[1].digest = (ProtobufCBinaryData){DIGEST_SIZE, digest};
        for (guint i = 0; i < 2; i++) {
                moult__target__merge__init(&r->merges[i]);
                r->merges[i].mount = bytes_of("usr");
                r->merges[i].path = bytes_of(i == 0 ? "usr/d" : "usr/e");
                r->merge_list[i] = &r->merges[i];
        }
        r->target.format = 1;
        r->target.n_releases = 1;
        r->target.releases = r->releases;
        r->target.n_items = 3;
        r->target.items = r->item_list;
        r->target.n_merges = 2;
        r->target.merges = r->merge_list;
}

Test(target, every_rule_of_the_record_is_checked)
{
        struct record r;
        char *why;
#define EXPECT(text, ...)                                                                                    \
        do {                                                                                                 \
                record_init(&r);                                                                             \
                __VA_ARGS__;                                                                                 \
                why = parse_refusal(&r.target);                                                              \
                cr_expect(*(text) == '\0' ? *why == '\0' : strstr(why, text) != NULL, "want %s, have %s",    \
                          text, why);                                                                        \
                g_free(why);                                                                                 \
        } while (0)
        EXPECT("", (void)0);
        EXPECT("format is not known", r.target.format = 2);
        EXPECT("component", r.entries[1].path = bytes_of("usr/../f"));
        EXPECT(".moult", r.entries[1].path = bytes_of("usr/.moult/f"));
        EXPECT("unknown type", r.entries[1].type = 99);
        EXPECT("hard link", r.entries[2].type = MOULT__ENTRY_TYPE__ENTRY_HARDLINK,
               r.entries[2].link_target = bytes_of("a"));
        EXPECT("0:0", r.entries[2].type = MOULT__ENTRY_TYPE__ENTRY_CHAR_DEVICE);
        EXPECT("only a release", r.entries[1].size = 1, r.entries[1].blob = 1);
        EXPECT("only a release", r.entries[1].old_must_exist = 1);
        EXPECT("only a release", r.entries[1].delivery = MOULT__DELIVERY__DELIVERY_OVERLAY);
        EXPECT("", r.entries[1].n_xattrs = 1, r.entries[1].xattrs = r.xattrs);
        EXPECT("overlayfs", r.entries[1].n_xattrs = 1, r.entries[1].xattrs = r.xattrs,
               r.xattr.name = bytes_of("trusted.overlay.redirect"));
        EXPECT("digest", r.entries[1].digest.len = 31);
        EXPECT("release is not listed", r.items[1].release = 1);
        EXPECT("no item is from it", r.target.n_releases = 2);
        EXPECT("not 1 to 129 bytes", r.release.name.len = 0);
        EXPECT("not printable", r.release.name = bytes_of("a\nb"));
        EXPECT("not 32 bytes", r.release.manifest_digest.len = 5);
        EXPECT("unknown reach", r.items[1].reach = 2);
        EXPECT("unknown kind", r.items[1].original = 4);
        EXPECT("not a regular file", r.items[2].reach = MOULT__TARGET__REACH__REACH_FILE);
        EXPECT("opaque, but", r.items[1].opaque = TRUE);
        EXPECT("", r.items[0].opaque = TRUE);
        EXPECT("clean relative", r.items[1].mount = bytes_of("/usr"));
        EXPECT("below its mount", r.items[1].mount = bytes_of("us"));
        EXPECT("not in order", r.item_list[0] = &r.items[1], r.item_list[1] = &r.items[0]);
        EXPECT("twice", r.item_list[1] = &r.items[0]);
        EXPECT("not a directory", r.entries[0].type = MOULT__ENTRY_TYPE__ENTRY_DELETE);
        EXPECT("not a directory", r.entries[0].type = MOULT__ENTRY_TYPE__ENTRY_FIFO);
        EXPECT("opaque directory", r.items[0].opaque = TRUE, r.entries[1] = r.entries[2],
               r.entries[1].path = bytes_of("usr/d/f"), r.items[1].opaque = TRUE);
        EXPECT("clean", r.merges[0].path = bytes_of(""));
        EXPECT("unknown reach", r.merges[0].reach = 7);
        EXPECT("below its mount", r.merges[0].mount = bytes_of("etc"));
        EXPECT("merges are not in order", r.merge_list[0] = &r.merges[1], r.merge_list[1] = &r.merges[0]);
        EXPECT("not in the target", r.merges[1].reach = MOULT__TARGET__REACH__REACH_FILE);
        EXPECT("is not a directory in", r.merges[0].path = bytes_of("usr/d/f"));
        EXPECT("in one another", r.merges[1].path = bytes_of("usr/d/x"));
        EXPECT("", r.merges[1].path = bytes_of("usr/d/x/y"), r.merges[1].mount = bytes_of("usr/d/x"));
        EXPECT("below a file", r.merges[0].path = bytes_of("usr/d/f"),
               r.merges[0].reach = MOULT__TARGET__REACH__REACH_FILE,
               r.merges[1].path = bytes_of("usr/d/f/x"));
}

Test(target, what_cannot_be_kept_is_refused_before_it_is_written)
{
        g_autoptr(Changes) c = changes_new();
        changes_xattr(c, changes_file(c, "usr/a", ""), "trusted.overlay.opaque", "y", 1);
        g_autoptr(Target) t = targets_compose(NULL, 1, c);
        g_autofree char *why = target_refusal(t);
        cr_expect_str_eq(why, "item usr/a: it has an extended attribute of overlayfs (trusted.overlay.*)");
}

/* A file of sub-messages of nothing asks for much memory and gets none. */
Test(target, a_hostile_record_does_not_take_the_memory_of_the_machine)
{
        gsize len = 8 * 1024 * 1024;
        guint8 *data = g_malloc(DIGEST_SIZE + len);
        for (gsize i = 0; i < len; i += 2) {
                data[DIGEST_SIZE + i] = 3 << 3 | 2; /* items, of no bytes */
                data[DIGEST_SIZE + i + 1] = 0;
        }
        g_autoptr(Hasher) h = hasher_new();
        hasher_sha256(h, data + DIGEST_SIZE, len, data);
        g_autoptr(GBytes) bytes = g_bytes_new_take(data, DIGEST_SIZE + len);
        g_autoptr(GError) error = NULL;
        cr_expect_null(target_parse(bytes, &error));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_CORRUPT));
}

Test(target, ten_thousand_items_are_composed_over_ten_thousand)
{
        g_autoptr(Changes) one = changes_new(), two = changes_new();
        for (int i = 0; i < 10000; i++) {
                g_autofree char *path = g_strdup_printf("usr/%02d/%04d", i % 97, i);
                changes_file(one, path, "1");
                if (i % 2 == 0)
                        changes_delete(two, path);
        }
        g_autoptr(Target) t1 = targets_compose(NULL, 1, one), t2 = targets_compose(t1, 2, two);
        g_autoptr(GBytes) bytes = target_serialise(t2);
        g_autoptr(GError) error = NULL;
        g_autoptr(Target) again = target_parse(bytes, &error);
        cr_assert_not_null(again, "%s", error != NULL ? error->message : "");
        cr_assert_eq(target_size(again), 10000u);
        for (guint i = 0; i < 10000; i++) {
                struct target_item item = target_get(again, i), found;
                cr_assert(target_lookup(again, item.path, &found) && found.entry == item.entry);
        }
}
