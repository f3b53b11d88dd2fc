/* host-service/image/guestfs_calls.c - libguestfs, loaded when the first image is opened. */
#include "host-service/image/guestfs_calls.h"

#include <dlfcn.h>

#include "common/error.h"

#define LIBRARY "libguestfs.so.0"

static gboolean load(struct guestfs_calls *c, GError **error)
{
        void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

        if (!library) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "images are read with libguestfs, which is not installed: install the packages "
                            "libguestfs0 and qemu-utils (%s)",
                            dlerror());
                return FALSE;
        }
#define X(name)                                                                                              \
        c->name = (__typeof__(c->name))dlsym(library, "guestfs_" #name);                                     \
        if (!c->name) {                                                                                      \
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,                                     \
                            "this libguestfs is too old: it has no guestfs_" #name);                         \
                return FALSE;                                                                                \
        }
        GUESTFS_CALLS(X)
#undef X
        return TRUE;
}

const struct guestfs_calls *guestfs_calls_load(GError **error)
{
        static GMutex lock;
        static struct guestfs_calls calls;
        static gboolean loaded;
        g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);

        if (!loaded)
                loaded = load(&calls, error);
        return loaded ? &calls : NULL;
}
