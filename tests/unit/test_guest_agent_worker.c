/* tests/unit/test_guest_agent_worker.c - work in threads, and the end of whoever does it. */
#include "guest-agent/worker.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

TestSuite(worker, .timeout = 60);

struct chain {
        Worker *worker;
        gint ran; /* atomic */
        guint left, done;
};

static void run(gpointer job)
{
        struct chain *c = job;

        g_atomic_int_inc(&c->ran);
}

static void done(gpointer job)
{
        struct chain *c = job;

        c->done++;
        if (c->left > 0) {
                c->left--;
                worker_push(c->worker, run, done, c);
        }
}

/* An agent that is asked to stop has a push in the middle of its steps, and hosts that ask. */
Test(worker, what_the_end_of_a_task_pushes_is_waited_for_too)
{
        struct chain c = {worker_new(1), 0, 20, 0};

        worker_push(c.worker, run, done, &c);
        worker_free(c.worker);
        cr_expect(eq(int, c.ran, 21));
        cr_expect(eq(uint, c.done, 21));
}

static gboolean push_more(gpointer user)
{
        struct chain *c = user;

        worker_push(c->worker, run, done, c);
        return G_SOURCE_REMOVE;
}

static void run_and_wake(gpointer job)
{
        run(job);
        g_idle_add_full(G_PRIORITY_HIGH, push_more, job, NULL);
}

Test(worker, so_is_what_the_loop_brings_meanwhile)
{
        struct chain c = {worker_new(1), 0, 0, 0};

        worker_push(c.worker, run_and_wake, done, &c);
        worker_free(c.worker);
        cr_expect(eq(int, c.ran, 2));
        cr_expect(eq(uint, c.done, 2));
}
