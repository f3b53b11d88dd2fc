/* host-service/image/image_tree.c - the tree in an image, asked of our agent beside it. */
#include "host-service/image/image_tree.h"

#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "proto/limits.h"
#include "proto/message.h"

#define QUESTIONS "/questions"
#define ANSWERS   "/answers"
/* Names and metadata of the largest trees, there and back. */
#define BESIDE_BYTES (1ull << 30)

struct ImageTree {
        Image *image;
        struct agent_tree_asker asker;
};

/* ---- names ---- */

/* Each packed message after its length; guest-agent/cli/answer.c reads it. */
static gboolean write_questions(const GPtrArray *questions, int fd, GError **error)
{
        for (guint i = 0; i < questions->len; i++) {
                gsize len;
                gconstpointer data = g_bytes_get_data(g_ptr_array_index(questions, i), &len);
                guint32 head = GUINT32_TO_LE((guint32)len);

                if (!fd_write_all(fd, &head, sizeof head, "a temporary file", error) ||
                    !fd_write_all(fd, data, len, "a temporary file", error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean put_questions(Image *image, const GPtrArray *questions, GError **error)
{
        g_autofree char *path = NULL;
        scoped_fd int fd = g_file_open_tmp("moult-questions-XXXXXX", &path, error);
        gboolean ok = fd >= 0 && write_questions(questions, fd, error) &&
                      image_put_beside(image, path, QUESTIONS, 0600, error);

        if (path)
                unlink(path);
        return ok;
}

static GPtrArray *split_answers(GBytes *all, GError **error)
{
        g_autoptr(GPtrArray) answers = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        gsize size;
        const guint8 *data = g_bytes_get_data(all, &size);

        for (gsize at = 0; at < size;) {
                guint32 len = G_MAXUINT32;

                if (size - at >= sizeof len)
                        memcpy(&len, data + at, sizeof len);
                len = GUINT32_FROM_LE(len);
                at += sizeof len;
                if (len > LIMIT_FRAME_PAYLOAD || at > size || len > size - at) {
                        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                            "the answers from beside the image are cut off");
                        return NULL;
                }
                g_ptr_array_add(answers, g_bytes_new_from_bytes(all, at, len));
                at += len;
        }
        return g_steal_pointer(&answers);
}

static GPtrArray *ask_all(const GPtrArray *questions, gpointer user, GError **error)
{
        static const char *const argv[] = {IMAGE_AGENT, "answer", "--root", IMAGE_BESIDE,
                                           QUESTIONS,   ANSWERS,  NULL};
        ImageTree *t = user;
        g_autofree char *said = NULL;

        if (!put_questions(t->image, questions, error) || !(said = image_run(t->image, argv, error)))
                return NULL;
        g_autoptr(GBytes) all = image_read_beside(t->image, ANSWERS, BESIDE_BYTES, error);
        return all ? split_answers(all, error) : NULL;
}

/* ---- contents ---- */

/* TreeRead only: names are asked for all at once. */
static Message *ask(const Message *question, gpointer user, GError **error)
{
        ImageTree *t = user;
        Moult__TreeData data = MOULT__TREE_DATA__INIT;
        Message m = MOULT__MESSAGE__INIT;

        g_return_val_if_fail(question->body_case == MOULT__MESSAGE__BODY_TREE_READ, NULL);
        const Moult__TreeRead *what = question->tree_read;
        g_autofree char *path = g_strdup_printf("/%.*s", (int)what->path.len, (const char *)what->path.data);
        g_autoptr(GBytes) bytes = image_read_piece(t->image, path, what->offset, what->length, error);
        if (!bytes)
                return NULL;
        gsize len;
        gconstpointer piece = g_bytes_get_data(bytes, &len);
        data.bytes = message_blob(piece, len);
        m.body_case = MOULT__MESSAGE__BODY_TREE_DATA;
        m.tree_data = &data;
        g_autoptr(GBytes) packed = message_pack(&m);
        return message_unpack(packed, error);
}

/* ---- the whole ---- */

ImageTree *image_tree_open(const struct image_name *name, const struct image_name *backing, GError **error)
{
        const struct image_options options = {
                .backing = backing, .beside = TRUE, .beside_bytes = BESIDE_BYTES};
        g_autoptr(ImageTree) t = g_new0(ImageTree, 1);

        if (!(t->image = image_open(name, &options, error)) || !image_mount(t->image, error))
                return NULL;
        t->asker = (struct agent_tree_asker){.ask = ask, .ask_all = ask_all, .user = t};
        return g_steal_pointer(&t);
}

void image_tree_free(ImageTree *t)
{
        if (!t)
                return;
        image_free(t->image);
        g_free(t);
}

const struct agent_tree_asker *image_tree_asker(const ImageTree *t)
{
        return &t->asker;
}

const char *image_tree_name(const ImageTree *t)
{
        return image_path(t->image);
}
