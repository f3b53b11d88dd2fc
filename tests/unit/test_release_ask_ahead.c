/* tests/unit/test_release_ask_ahead.c - several questions under way, their answers in order. */
#include "host-service/release/ask_ahead.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/release/agent_tree.h"

TestSuite(ask_ahead, .timeout = 120);

#define WIDTH 3u

/* Answers a TreeRead with its offset. */
struct fake {
        struct agent_tree_asker asker;
        GMutex lock;
        GCond changed;
        unsigned under_way, most, answered;
        unsigned wanted; /* so many must be under way at once before any is answered */
        guint64 bad;     /* this offset is an error */
};

static Message *answer_to(guint64 offset)
{
        Moult__TreeData data = MOULT__TREE_DATA__INIT;
        Message m = MOULT__MESSAGE__INIT;

        data.bytes = message_blob(&offset, sizeof offset);
        m.body_case = MOULT__MESSAGE__BODY_TREE_DATA;
        m.tree_data = &data;
        g_autoptr(GBytes) b = message_pack(&m);
        return message_unpack(b, NULL);
}

static Message *ask(const Message *question, gpointer user, GError **error)
{
        struct fake *f = user;
        guint64 offset = question->tree_read->offset;

        g_mutex_lock(&f->lock);
        f->under_way++;
        f->most = MAX(f->most, f->under_way);
        g_cond_broadcast(&f->changed);
        while (f->most < f->wanted)
                g_cond_wait(&f->changed, &f->lock);
        /* Of the first ones, the last is answered first. */
        while (offset < f->wanted && f->answered < f->wanted - 1 - offset)
                g_cond_wait(&f->changed, &f->lock);
        f->under_way--;
        f->answered++;
        g_cond_broadcast(&f->changed);
        g_mutex_unlock(&f->lock);
        if (offset != f->bad)
                return answer_to(offset);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY, "not this one");
        return NULL;
}

static void fake_init(struct fake *f, unsigned width, unsigned wanted)
{
        *f = (struct fake){.asker = {.ask = ask, .user = f, .width = width}, .wanted = wanted, .bad = 1000};
        g_mutex_init(&f->lock);
        g_cond_init(&f->changed);
}

static void push(AskAhead *a, guint64 offset)
{
        Moult__TreeRead what = MOULT__TREE_READ__INIT;
        Message m = MOULT__MESSAGE__INIT;

        what.path = message_bytes("a");
        what.offset = offset;
        what.length = 1;
        m.body_case = MOULT__MESSAGE__BODY_TREE_READ;
        m.tree_read = &what;
        ask_ahead_push(a, &m);
}

static guint64 take(AskAhead *a)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(Message) m = ask_ahead_take(a, &error);
        guint64 offset;

        if (!m) {
                cr_assert(error != NULL);
                cr_expect(eq(str, error->message, "not this one"));
                return G_MAXUINT64;
        }
        memcpy(&offset, m->tree_data->bytes.data, sizeof offset);
        return offset;
}

/* Pushes while there is room, takes one, and so on. */
static void run(AskAhead *a, guint64 n, guint64 bad)
{
        guint64 next = 0;

        for (guint64 i = 0; i < n; i++) {
                while (next < n && ask_ahead_has_room(a))
                        push(a, next++);
                cr_expect(eq(u64, take(a), i == bad ? G_MAXUINT64 : i));
        }
}

Test(ask_ahead, as_many_as_allowed_are_under_way_and_the_answers_come_in_order)
{
        struct fake f;

        fake_init(&f, WIDTH, WIDTH); /* one after the other, this would never end */
        g_autoptr(AskAhead) a = ask_ahead_new(&f.asker);
        run(a, 50, 1000);
        cr_expect(eq(u32, f.most, WIDTH));
}

Test(ask_ahead, an_error_is_given_in_its_place_and_the_others_are_answered)
{
        struct fake f;

        fake_init(&f, WIDTH, WIDTH);
        f.bad = 7;
        g_autoptr(AskAhead) a = ask_ahead_new(&f.asker);
        run(a, 20, 7);
        cr_expect(eq(u32, f.answered, 20));
}

Test(ask_ahead, room_is_bounded)
{
        struct fake f;
        guint64 n = 0;

        fake_init(&f, WIDTH, WIDTH);
        g_autoptr(AskAhead) a = ask_ahead_new(&f.asker);
        for (; ask_ahead_has_room(a); n++)
                push(a, n);
        cr_expect(eq(u64, n, ASK_AHEAD_FACTOR * WIDTH));
        cr_expect(eq(u64, take(a), 0));
        cr_expect(ask_ahead_has_room(a));
}

Test(ask_ahead, without_threads_a_question_is_asked_when_its_answer_is_taken)
{
        struct fake f;

        fake_init(&f, 0, 1);
        g_autoptr(AskAhead) a = ask_ahead_new(&f.asker);
        push(a, 0);
        push(a, 1);
        cr_expect(eq(u32, f.answered, 0));
        cr_expect(eq(u64, take(a), 0));
        cr_expect(eq(u32, f.answered, 1));
        cr_expect(eq(u64, take(a), 1));
}
