/* tests/unit/test_release_agent_tree.c - the host's walk over a guest's files, against the agent's own eyes,
 * and against an agent that lies. */
#include "host-service/release/agent_tree.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/tree_look.h"
#include "tests/support/tempdir.h"

TestSuite(release_agent_tree, .timeout = 120);

/* An agent in this process. */
struct fake {
        int root;
        gint64 time_us; /* that a look may take; LATE: it is always over */
        struct agent_tree_asker asker;
        gint questions; /* atomic */
        unsigned width;
        void (*spoil)(Message *answer);
        const char *at_once; /* directory of the files for `moult-agent answer`; NULL: one by one */
};

static Message *packed_and_back(const Message *m)
{
        g_autoptr(GBytes) b = message_pack(m);
        g_autoptr(GError) error = NULL;
        Message *back = message_unpack(b, &error);

        cr_assert(back != NULL, "%s", error ? error->message : "");
        return back;
}

static Message *ask(const Message *question, gpointer user, GError **error)
{
        struct fake *f = user;
        g_autoptr(Message) q = packed_and_back(question);
        Message m = MOULT__MESSAGE__INIT;

        g_atomic_int_inc(&f->questions);
        if (q->body_case == MOULT__MESSAGE__BODY_TREE_READ) {
                Moult__TreeData *data = tree_read(f->root, q->tree_read, error);

                if (!data)
                        return NULL;
                m.body_case = MOULT__MESSAGE__BODY_TREE_DATA;
                m.tree_data = data;
                Message *answer = packed_and_back(&m);
                tree_data_free(data);
                return answer;
        }
        Moult__TreePage *page = tree_look(f->root, q->tree_query, g_get_monotonic_time() + f->time_us, error);
        if (!page)
                return NULL;
        m.body_case = MOULT__MESSAGE__BODY_TREE_PAGE;
        m.tree_page = page;
        Message *answer = packed_and_back(&m);
        tree_page_free(page);
        if (f->spoil)
                f->spoil(answer);
        return answer;
}

static void append(GByteArray *to, GBytes *packed)
{
        guint32 head = GUINT32_TO_LE((guint32)g_bytes_get_size(packed));

        g_byte_array_append(to, (const guint8 *)&head, sizeof head);
        g_byte_array_append(to, g_bytes_get_data(packed, NULL), (guint)g_bytes_get_size(packed));
}

/* As for an image: all questions in one file, all answers in another. */
static GPtrArray *ask_all(const GPtrArray *questions, gpointer user, GError **error)
{
        struct fake *f = user;
        g_autoptr(GByteArray) all = g_byte_array_new();
        g_autofree char *q = g_build_filename(f->at_once, "q", NULL),
                        *a = g_build_filename(f->at_once, "a", NULL);
        g_autofree char *root = g_strdup_printf("/proc/self/fd/%d", f->root), *data = NULL;
        const char *argv[] = {"answer", "--root", root, q, a, NULL};
        GPtrArray *answers = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        gsize size;

        for (guint i = 0; i < questions->len; i++)
                append(all, g_ptr_array_index(questions, i));
        f->questions += (gint)questions->len;
        cr_assert(g_file_set_contents(q, (const char *)all->data, (gssize)all->len, NULL));
        cr_assert(eq(int, command_answer(5, (char **)argv), 0));
        cr_assert(g_file_get_contents(a, &data, &size, NULL));
        for (gsize at = 0; at < size;) {
                guint32 len;

                memcpy(&len, data + at, sizeof len);
                g_ptr_array_add(answers, g_bytes_new(data + at + sizeof len, GUINT32_FROM_LE(len)));
                at += sizeof len + GUINT32_FROM_LE(len);
        }
        return answers;
}

static void put(TempDir *t, const char *name, const char *text)
{
        g_auto(GStrv) parts = g_strsplit(name, "/", -1);
        g_autoptr(GString) dir = g_string_new(NULL);

        for (unsigned i = 0; parts[i + 1]; i++) {
                g_string_append_printf(dir, "%s%s", i ? "/" : "", parts[i]);
                mkdirat(t->fd, dir->str, 0755);
        }
        tempdir_put(t, name, text, strlen(text));
}

static BuildTree *scan(TempDir *t)
{
        const struct build_tree_options none = {0};
        BuildTree *tree = build_tree_scan(t->path, &none, NULL, NULL);

        cr_assert(tree != NULL);
        return tree;
}

static BuildTree *walk(TempDir *live, const BuildTree *base, struct fake *f, const PerVmList *l,
                       GError **error)
{
        const struct agent_tree_options options = {.name = "vm", .per_vm = l, .hash = TRUE};

        f->root = live->fd;
        f->asker = (struct agent_tree_asker){
                .ask = ask, .ask_all = f->at_once ? ask_all : NULL, .user = f, .width = f->width};
        return agent_tree_read(base, &f->asker, &options, NULL, error);
}

static char *words(const BuildTree *t)
{
        GString *s = g_string_new(NULL);

        for (unsigned i = 0; i < build_tree_count(t); i++)
                g_string_append_printf(s, "%s ", build_tree_node(t, i)->path);
        return g_string_free(s, FALSE);
}

#define PATIENT ((gint64)60 * G_USEC_PER_SEC)
#define LATE    (-PATIENT)

Test(release_agent_tree, everything_is_listed_where_nothing_is_supposed)
{
        g_autoptr(TempDir) live = tempdir_new(), empty = tempdir_new();
        g_autoptr(BuildTree) base = scan(empty);
        struct fake f = {.time_us = PATIENT};

        put(live, "a/b", "1");
        put(live, "a-b", "2");
        cr_assert(eq(int, linkat(live->fd, "a-b", live->fd, "z", 0), 0));
        cr_assert(eq(int, symlinkat("x", live->fd, "link"), 0));
        g_autoptr(BuildTree) t = walk(live, base, &f, NULL, NULL);
        cr_assert(t != NULL);
        g_autofree char *got = words(t);
        cr_expect(eq(str, got, "a a-b a/b link z "));
        const struct tree_node *n = build_tree_node(t, 1);
        cr_expect(n->has_digest && S_ISREG(n->mode) && n->size == 1);
        cr_expect(eq(u32, n->n_names, 2));
        cr_expect(eq(str, build_tree_node(t, 3)->link_text, "x"));
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = build_tree_open(t, 1, &error);
        char c = 0;
        cr_assert(fd >= 0, "%s", error ? error->message : "");
        cr_expect(eq(int, (int)read(fd, &c, 1), 1));
        cr_expect(eq(chr, c, '2'));
}

/* An agent that is always late answers one object at a time; the walk must get on all the same, and find the
 * same. */
Test(release_agent_tree, a_slow_agent_gives_the_same_tree_piece_by_piece)
{
        g_autoptr(TempDir) live = tempdir_new(), old = tempdir_new();
        struct fake late = {.time_us = LATE};

        for (unsigned i = 0; i < 40; i++) {
                g_autofree char *name = g_strdup_printf("d%u/f%u", i % 3, i);

                put(i % 5 ? live : old, name, "x");
                if (i % 7 == 0)
                        put(old, name, "y");
        }
        g_autoptr(BuildTree) base = scan(old);
        g_autoptr(BuildTree) a = walk(live, base, &late, NULL, NULL);
        g_autoptr(BuildTree) plain = scan(live);
        cr_assert(a && plain);
        g_autofree char *got = words(a), *want = words(plain);
        cr_expect(eq(str, got, want));
        cr_expect(gt(int, late.questions, 30));
}

/* More than one question, and one question with more than one answer. */
Test(release_agent_tree, many_questions_at_once_give_the_same_tree)
{
        g_autoptr(TempDir) live = tempdir_new(), old = tempdir_new(), files = tempdir_new();
        struct fake f = {.time_us = PATIENT, .at_once = files->path};

        for (unsigned i = 0; i < 900; i++) {
                g_autofree char *name = g_strdup_printf("d%u/f%u", i % 3, i);

                put(live, name, "x");
                if (i % 2)
                        put(old, name, i % 4 == 1 ? "x" : "y");
                g_autofree char *gone = g_strdup_printf("e/%u", i);
                put(i % 3 ? live : old, gone, "z");
        }
        g_autoptr(BuildTree) base = scan(old);
        g_autoptr(BuildTree) t = walk(live, base, &f, NULL, NULL),
                             from_nothing = walk(live, NULL, &f, NULL, NULL);
        g_autoptr(BuildTree) plain = scan(live);
        cr_assert(t && from_nothing && f.questions > 2);
        g_autofree char *got = words(t), *got_from_nothing = words(from_nothing), *want = words(plain);
        cr_expect(eq(str, got, want));
        cr_expect(eq(str, got_from_nothing, want));
        cr_expect(
                build_tree_node(from_nothing, (unsigned)build_tree_find(from_nothing, "d0/f0"))->has_digest);
}

static void put_many(TempDir *live, TempDir *old)
{
        for (unsigned i = 0; i < 1400; i++) {
                g_autofree char *name = g_strdup_printf("d%u/f%u", i % 5, i);

                put(live, name, "x");
                if (i % 3)
                        put(old, name, i % 4 == 1 ? "x" : "yy");
                g_autofree char *gone = g_strdup_printf("e/%u", i);
                put(i % 3 ? live : old, gone, "z");
        }
}

/* The ranges are asked about before the answers to others are there; answers that are not whole are completed
 * in their place. */
Test(release_agent_tree, several_questions_under_way_give_the_same_tree)
{
        g_autoptr(TempDir) live = tempdir_new(), old = tempdir_new();
        struct fake patient = {.time_us = PATIENT, .width = 4}, late = {.time_us = LATE, .width = 4};

        put_many(live, old);
        g_autoptr(BuildTree) base = scan(old);
        g_autoptr(BuildTree) t = walk(live, base, &patient, NULL, NULL),
                             u = walk(live, base, &late, NULL, NULL);
        g_autoptr(BuildTree) plain = scan(live);
        cr_assert(t && u);
        g_autofree char *got = words(t), *got_late = words(u), *want = words(plain);
        cr_expect(eq(str, got, want));
        cr_expect(eq(str, got_late, want));
        cr_expect(gt(int, patient.questions, 4));
        cr_expect(lt(int, patient.questions, 20));
        cr_expect(gt(int, late.questions, 1000));
}

static void expect_content(const BuildTree *t, const char *path, const char *want)
{
        g_autoptr(GError) error = NULL;
        scoped_fd int fd = build_tree_open(t, (unsigned)build_tree_find(t, path), &error);
        char buf[16] = "";

        cr_assert(fd >= 0, "%s: %s", path, error ? error->message : "");
        cr_assert(read(fd, buf, sizeof buf - 1) >= 0);
        cr_expect(eq(str, buf, (char *)want), "%s", path);
}

static void expect(const BuildTree *t, const char *const *paths)
{
        g_autoptr(GArray) indices = g_array_new(FALSE, FALSE, sizeof(guint));

        for (; *paths; paths++) {
                guint i = (guint)build_tree_find(t, *paths);

                g_array_append_val(indices, i);
        }
        build_tree_expect(t, indices);
}

/* Whoever says what he opens next, and then opens other files, gets those. */
Test(release_agent_tree, contents_are_the_files_own_whatever_was_expected)
{
        g_autoptr(TempDir) live = tempdir_new();
        struct fake f = {.time_us = PATIENT, .width = 4};
        g_autofree char *large = g_strnfill(600000, 'l');

        put(live, "a", "1");
        put(live, "b", "");
        put(live, "c", "3");
        put(live, "d", "4");
        put(live, "large", large);
        g_autoptr(BuildTree) t = walk(live, NULL, &f, NULL, NULL);
        cr_assert(t != NULL);
        gint listed = f.questions;
        expect(t, (const char *const[]){"a", "b", "large", "d", NULL});
        expect_content(t, "a", "1");
        expect_content(t, "b", "");
        expect_content(t, "large", "lllllllllllllll");
        expect_content(t, "d", "4");
        cr_expect(eq(int, g_atomic_int_get(&f.questions) - listed, 5), "nothing is fetched twice");
        expect(t, (const char *const[]){"a", "c", "large", NULL});
        expect_content(t, "c", "3");
        expect_content(t, "a", "1");
        expect(t, (const char *const[]){"d", "a", NULL});
        expect(t, (const char *const[]){"c", NULL});
        expect_content(t, "c", "3");
        expect_content(t, "c", "3");
}

Test(release_agent_tree, names_alone_have_no_digests_and_what_is_excluded_is_not_there)
{
        g_autoptr(TempDir) live = tempdir_new();
        struct fake f = {.time_us = PATIENT, .root = live->fd};
        const char *const xattrs[] = {"user.*", NULL};
        const struct agent_tree_options options = {
                .name = "image", .names_only = TRUE, .owner_root = TRUE, .exclude_xattr = xattrs};

        put(live, "a", "1");
        cr_assert(eq(int, fchownat(live->fd, "a", 7, 8, 0), 0));
        g_autofree char *path = tempdir_path(live, "a");
        cr_assert(eq(int, setxattr(path, "user.x", "1", 1, 0), 0));
        f.asker = (struct agent_tree_asker){.ask = ask, .user = &f};
        g_autoptr(BuildTree) t = agent_tree_read(NULL, &f.asker, &options, NULL, NULL);
        cr_assert(t != NULL && build_tree_count(t) == 1);
        const struct tree_node *n = build_tree_node(t, 0);
        cr_expect(not(n->has_digest));
        cr_expect(n->uid == 0 && n->gid == 0 && n->n_xattrs == 0);
}

Test(release_agent_tree, what_the_list_leaves_out_is_not_looked_into)
{
        g_autoptr(TempDir) live = tempdir_new(), empty = tempdir_new();
        g_autoptr(BuildTree) base = scan(empty);
        g_autoptr(PerVmList) l = per_vm_list_parse("[noise]\ntmp/\n*.log\n", 18, "LIST", NULL);
        struct fake f = {.time_us = PATIENT};

        put(live, "tmp/x", "1");
        put(live, "a.log", "2");
        g_autoptr(BuildTree) t = walk(live, base, &f, l, NULL);
        cr_assert(t != NULL);
        g_autofree char *got = words(t);
        cr_expect(eq(str, got, "a.log "));
        cr_expect(not(build_tree_node(t, 0)->has_digest));
}

Test(release_agent_tree, a_file_that_changes_after_it_was_listed_is_not_taken)
{
        g_autoptr(TempDir) live = tempdir_new(), empty = tempdir_new();
        g_autoptr(BuildTree) base = scan(empty);
        g_autoptr(GError) error = NULL;
        struct fake f = {.time_us = PATIENT};

        put(live, "a", "one");
        g_autoptr(BuildTree) t = walk(live, base, &f, NULL, NULL);
        put(live, "a", "two");
        cr_expect(eq(int, build_tree_open(t, 0, &error), -1));
        cr_assert(error != NULL);
        cr_expect(eq(int, error->code, MOULT_ERROR_BUSY));
}

static void say_nothing_new(Message *answer)
{
        answer->tree_page->complete = FALSE; /* and reached is empty */
}

static void turn_round(Message *answer)
{
        Moult__TreeItem *first = answer->tree_page->items[0];

        answer->tree_page->items[0] = answer->tree_page->items[1];
        answer->tree_page->items[1] = first;
}

static void climb(Message *answer)
{
        ProtobufCBinaryData *path = &answer->tree_page->items[0]->path;

        path->data[0] = '/';
}

static void expect_disbelief(void (*spoil)(Message *answer))
{
        g_autoptr(TempDir) live = tempdir_new(), empty = tempdir_new();
        g_autoptr(BuildTree) base = scan(empty);
        g_autoptr(GError) error = NULL;
        struct fake f = {.time_us = PATIENT, .spoil = spoil};

        put(live, "aa", "1");
        put(live, "bb", "2");
        cr_expect(eq(ptr, walk(live, base, &f, NULL, &error), NULL));
        cr_assert(error != NULL);
        cr_expect(eq(int, error->code, MOULT_ERROR_MALFORMED));
        cr_expect(strstr(error->message, "cannot be right") != NULL, "%s", error->message);
}

Test(release_agent_tree, an_agent_that_does_not_get_on_is_not_asked_for_ever)
{
        expect_disbelief(say_nothing_new);
}

Test(release_agent_tree, paths_out_of_order_or_out_of_the_tree_are_not_believed)
{
        expect_disbelief(turn_round);
        expect_disbelief(climb);
}
