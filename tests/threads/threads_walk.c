/* tests/threads/threads_walk.c - a walk over a machine's files with as many questions under way as there are
 * threads, each answered by an agent's own eyes in this process: for ThreadSanitizer. Then the contents, some
 * of them out of the order in which they were expected. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "guest-agent/tree_look.h"
#include "host-service/release/agent_tree.h"
#include "tests/support/tempdir.h"

#define FILES 3000u
#define WIDTH 6u

static Message *ask(const Message *question, gpointer user, GError **error)
{
        const TempDir *root = user;
        Message m = MOULT__MESSAGE__INIT;
        g_autoptr(GBytes) packed = NULL;

        if (question->body_case == MOULT__MESSAGE__BODY_TREE_READ) {
                if (!(m.tree_data = tree_read(root->fd, question->tree_read, error)))
                        return NULL;
                m.body_case = MOULT__MESSAGE__BODY_TREE_DATA;
                packed = message_pack(&m);
                tree_data_free(m.tree_data);
        } else {
                m.tree_page = tree_look(root->fd, question->tree_query, G_MAXINT64, error);
                if (!m.tree_page)
                        return NULL;
                m.body_case = MOULT__MESSAGE__BODY_TREE_PAGE;
                packed = message_pack(&m);
                tree_page_free(m.tree_page);
        }
        return message_unpack(packed, error);
}

static void put_files(TempDir *t, unsigned seed)
{
        for (unsigned i = 0; i < FILES; i++) {
                g_autofree char *dir = g_strdup_printf("d%02u", i % 40);
                g_autofree char *name = g_strdup_printf("%s/f%u", dir, i);
                g_autofree char *text = g_strdup_printf("%u", i % seed);

                mkdirat(t->fd, dir, 0755);
                tempdir_put(t, name, text, strlen(text));
        }
}

static void read_all(const BuildTree *t)
{
        g_autoptr(GArray) files = g_array_new(FALSE, FALSE, sizeof(guint));

        for (guint i = 0; i < build_tree_count(t); i++)
                if (S_ISREG(build_tree_node(t, i)->mode))
                        g_array_append_val(files, i);
        build_tree_expect(t, files);
        for (guint i = 0; i < files->len; i++) {
                guint at = i % 500 == 499 ? files->len - i : i;
                g_autoptr(GError) error = NULL;
                scoped_fd int fd = build_tree_open(t, g_array_index(files, guint, at), &error);

                if (fd < 0)
                        g_error("%s", error->message);
        }
}

int main(void)
{
        g_autoptr(TempDir) live = tempdir_new(), old = tempdir_new();
        const struct build_tree_options all = {0};
        const struct agent_tree_options options = {.name = "vm", .hash = TRUE};
        const struct agent_tree_asker asker = {.ask = ask, .user = live, .width = WIDTH};
        g_autoptr(GError) error = NULL;

        put_files(live, 7);
        put_files(old, 5);
        g_autoptr(BuildTree) base = build_tree_scan(old->path, &all, NULL, &error);
        g_autoptr(BuildTree) t = base ? agent_tree_read(base, &asker, &options, NULL, &error) : NULL;
        if (!t)
                g_error("%s", error->message);
        if (build_tree_count(t) != FILES + 40)
                g_error("%u objects, not %u", build_tree_count(t), FILES + 40);
        read_all(t);
        return 0;
}
