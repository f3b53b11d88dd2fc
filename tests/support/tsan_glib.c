/* tests/support/tsan_glib.c - tells ThreadSanitizer about GLib's locks and queues.
 *
 * Debian's GLib is not instrumented and locks with futexes of its own: ThreadSanitizer sees no order where
 * there is one. Programs of the preset tsan are linked with this file, whose functions stand before GLib's
 * and say what each one orders: whatever happened before an unlock or a push happened before the lock or the
 * pop that follows it. */
#include <dlfcn.h>
#include <glib.h>

#include "common/error.h"

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
        void *symbol = dlsym(RTLD_NEXT, name);
        if (symbol == NULL)
                __builtin_trap();
        return symbol;
}

void g_mutex_lock(GMutex *mutex)
{
        REAL(g_mutex_lock)(mutex);
        __tsan_acquire(mutex);
}

gboolean g_mutex_trylock(GMutex *mutex)
{
        gboolean locked = REAL(g_mutex_trylock)(mutex);
        if (locked)
                __tsan_acquire(mutex);
        return locked;
}

void g_mutex_unlock(GMutex *mutex)
{
        __tsan_release(mutex);
        REAL(g_mutex_unlock)(mutex);
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
        __tsan_release(mutex);
        REAL(g_cond_wait)(cond, mutex);
        __tsan_acquire(mutex);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
        __tsan_release(mutex);
        gboolean signalled = REAL(g_cond_wait_until)(cond, mutex, end_time);
        __tsan_acquire(mutex);
        return signalled;
}

void g_async_queue_push(GAsyncQueue *queue, gpointer data)
{
        __tsan_release(data);
        REAL(g_async_queue_push)(queue, data);
}

gpointer g_async_queue_pop(GAsyncQueue *queue)
{
        gpointer data = REAL(g_async_queue_pop)(queue);
        __tsan_acquire(data);
        return data;
}

/* --- thread pools: a push orders with the work, the work with the pool's end --- */

struct work {
        GFunc function;
        gpointer user;
};

static char finished; /* an address; one for all pools: it only orders more than need be */

static void do_work(gpointer data, gpointer user)
{
        struct work *w = user;
        __tsan_acquire(data);
        w->function(data, w->user);
        __tsan_release(&finished);
}

GThreadPool *g_thread_pool_new(GFunc function, gpointer user, gint max_threads, gboolean exclusive,
                               GError **error)
{
        struct work *w =
                g_new(struct work, 1); /* kept: a pool does not say when its last thread has looked at it */
        w->function = function;
        w->user = user;
        __tsan_release(w);
        return REAL(g_thread_pool_new)(do_work, w, max_threads, exclusive, error);
}

gboolean g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error)
{
        __tsan_release(data);
        return REAL(g_thread_pool_push)(pool, data, error);
}

void g_thread_pool_free(GThreadPool *pool, gboolean immediate, gboolean wait_)
{
        REAL(g_thread_pool_free)(pool, immediate, wait_);
        __tsan_acquire(&finished);
}

/* What GLib makes at the first error of a program, and the number of our error domain, is made once by
 * whoever comes first, in an order that is not seen either: that is nobody's thread here. */
__attribute__((constructor)) static void make_first_error(void)
{
        g_autoptr(GError) e = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_IO, "the first one");
}

/* GLib's allocator for small objects passes memory from thread to thread under a lock of its own. And a
 * pool's thread ends 15 s after its last work, at any time of a slow run: what libcrypto frees then it has
 * counted, unseen. What a pool's queue is made of goes from thread to thread under the queue's own lock. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
        return "race:g_slice_alloc\n"
               "race:g_queue_pop_tail\n"
               "race:tools_free\n";
}
