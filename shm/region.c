/* shm/region.c - memory that someone else may be writing. Copy in, never a pointer out.
 *
 * Theory of operation: a BAR that is unplugged, or a file that is truncated, turns a load from its mapping
 * into SIGBUS. That must be an error of one read, not the end of the process. The kernel could copy for us
 * and return EFAULT (process_vm_readv, write to a pipe), but the first refuses PCI mappings (VM_IO), and
 * neither can use streaming loads, without which a write-combined BAR is read ten times slower. So the copy
 * is guarded: a thread that is about to touch a region notes where to jump to; the SIGBUS handler jumps there
 * if the address lies in that thread's region, and else does what was done about SIGBUS before us. Between
 * the note and the end of the copy there are only loads and stores: no lock, no allocation that a jump could
 * leave half done. The handler is the one thing here that is process-wide, because signal dispositions are.
 */
#include "shm/region.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "shm/stream_copy.h"

struct Region {
        uint8_t *base;
        size_t size; /* ours, from when it was mapped; never the peer's word */
        gboolean writable;
};

struct guard {
        sigjmp_buf back;
        const uint8_t *start, *end;
};

static __thread struct guard *volatile current_guard;
static struct sigaction action_before; /* written once, before any guard can be set */

static void on_sigbus(int number, siginfo_t *info, void *context)
{
        struct guard *g = current_guard;
        const uint8_t *address = info->si_addr;
        if (g != NULL && address >= g->start && address < g->end)
                siglongjmp(g->back, 1);
        if ((action_before.sa_flags & SA_SIGINFO) != 0)
                action_before.sa_sigaction(number, info, context);
        else if (action_before.sa_handler != SIG_DFL && action_before.sa_handler != SIG_IGN)
                action_before.sa_handler(number);
        else /* the load is tried again, and ends the process as it would have */
                sigaction(SIGBUS, &action_before, NULL);
}

static gpointer install_handler(gpointer unused)
{
        struct sigaction action = {
                .sa_sigaction = on_sigbus,
                /* NODEFER: we leave by a jump that does not restore the mask (saving it would be a call per
                   copy). */
                .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK,
        };
        sigemptyset(&action.sa_mask);
        if (sigaction(SIGBUS, NULL, &action_before) < 0 || sigaction(SIGBUS, &action, NULL) < 0)
                g_error("installing the SIGBUS handler: %s", g_strerror(errno));
        return NULL;
}

Region *region_map(int fd, uint64_t size, gboolean writable, GError **error)
{
        static GOnce once = G_ONCE_INIT;
        scoped_fd int owned = fd;

        if (size == 0 || size > SIZE_MAX / 2) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "mapping a region: its size of %" G_GUINT64_FORMAT " bytes is out of range",
                            size);
                return NULL;
        }
        g_once(&once, install_handler, NULL);
        void *base =
                mmap(NULL, (size_t)size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, owned, 0);
        if (base == MAP_FAILED) {
                int saved = errno;
                moult_error_errno(error, saved, "mapping a region");
                errno = saved;
                return NULL;
        }
        /* A child of ours (a hook, systemctl) has no business with it. */
        madvise(base, (size_t)size, MADV_DONTFORK);
        Region *r = g_new0(Region, 1);
        r->base = base;
        r->size = (size_t)size;
        r->writable = writable;
        return r;
}

void region_free(Region *r)
{
        if (r == NULL)
                return;
        munmap(r->base, r->size);
        g_free(r);
}

uint64_t region_size(const Region *r)
{
        return r->size;
}

static gboolean vanished(GError **error)
{
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                    "reading shared memory: it is gone (unplugged, or its file was cut off)");
        return FALSE;
}

gboolean region_copy_in(Region *r, uint64_t offset, void *dst, size_t len, GError **error)
{
        if (offset > r->size || len > r->size - offset) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                            "reading %zu bytes at %" G_GUINT64_FORMAT " of shared memory: it ends at %zu",
                            len, offset, r->size);
                return FALSE;
        }
        struct guard g = {.start = r->base, .end = r->base + r->size};
        if (sigsetjmp(g.back, 0) != 0) {
                current_guard = NULL;
                return vanished(error);
        }
        current_guard = &g;
        __asm__ volatile("" ::: "memory"); /* not one load before the guard is up */
        stream_copy(dst, r->base + offset, len);
        __asm__ volatile("" ::: "memory"); /* and no second look at it afterwards */
        current_guard = NULL;
        return TRUE;
}

#define PROBE_STORES 32u

/* Stores something else in the last word and looks whether it is there. Another guest may be probing the same
 * window: each store is of another random value, so that what is read back is ours or is not, and only what
 * is ours is taken away again. The word lies in the padding or in the signature, which nobody reads at this
 * time but us; and a window in which a store sticks is refused by whoever probes it. */
static gboolean store_sticks(Region *r, const uint64_t masks[static PROBE_STORES])
{
        volatile uint64_t *word = (volatile uint64_t *)(void *)(r->base + r->size - sizeof(uint64_t));
        for (unsigned i = 0; i < PROBE_STORES; i++) {
                uint64_t before = *word, ours = before ^ masks[i];
                *word = ours;
                __sync_synchronize();
                if (*word != ours)
                        continue;
                *word = before;
                return TRUE;
        }
        return FALSE;
}

gboolean region_probe_writable(Region *r, gboolean *ret_writable, GError **error)
{
        if (!r->writable || r->size % sizeof(uint64_t) != 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                            "probing shared memory: it is not mapped for writing, or has an odd size");
                return FALSE;
        }
        uint64_t masks[PROBE_STORES]; /* made before the guard: making them may take a lock */
        for (unsigned i = 0; i < PROBE_STORES; i++)
                masks[i] = (uint64_t)g_random_int() << 32 | g_random_int() | 1;
        struct guard g = {.start = r->base, .end = r->base + r->size};
        if (sigsetjmp(g.back, 0) != 0) {
                current_guard = NULL;
                return vanished(error);
        }
        current_guard = &g;
        __asm__ volatile("" ::: "memory");
        gboolean sticks = store_sticks(r, masks);
        __asm__ volatile("" ::: "memory");
        current_guard = NULL;
        *ret_writable = sticks;
        return TRUE;
}

/* --- a pack source --- */

/* A PCI window that is unplugged does not always fault: Linux leaves mappings of a removed device's BAR in
 * place, and loads from there give all ones. So the first bytes (a pack's header with its digest) are the
 * window's sign of life: what was copied counts only if they are still the same afterwards. */
#define SIGN_OF_LIFE 128u

typedef struct {
        PackSource base;
        struct pack_source_ops ops; /* of its own: name and kind are the creator's */
        char *name;
        Region *region;
        size_t n_sign;
        uint8_t sign[SIGN_OF_LIFE];
} RegionSource;

static gboolean region_source_read(PackSource *self, uint64_t offset, void *buf, size_t len,
                                   GCancellable *cancellable, GError **error)
{
        RegionSource *s = (RegionSource *)self;
        uint8_t now[SIGN_OF_LIFE];

        if (!region_copy_in(s->region, offset, buf, len, error) ||
            !region_copy_in(s->region, 0, now, s->n_sign, error))
                return FALSE;
        if (memcmp(now, s->sign, s->n_sign) != 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_IO,
                            "the shared memory (%s) does not hold the pack any more: it was unplugged",
                            s->name);
                return FALSE;
        }
        return TRUE;
}

static void region_source_free(PackSource *self)
{
        RegionSource *s = (RegionSource *)self;
        region_free(s->region);
        g_free(s->name);
        g_free(s);
}

PackSource *pack_source_region_new(Region *r, int kind, const char *name)
{
        RegionSource *s = g_new0(RegionSource, 1);
        s->name = g_strdup(name);
        s->ops = (struct pack_source_ops){
                .name = s->name,
                .kind = kind,
                .read = region_source_read,
                .free = region_source_free,
        };
        pack_source_init(&s->base, &s->ops, region_size(r));
        s->region = r;
        /* If it cannot be read now, the first read says so. */
        size_t n = (size_t)MIN(region_size(r), SIGN_OF_LIFE);
        if (region_copy_in(r, 0, s->sign, n, NULL))
                s->n_sign = n;
        return &s->base;
}
