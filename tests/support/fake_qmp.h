/* tests/support/fake_qmp.h - a QMP monitor that keeps objects and devices in a table, and misbehaves on
 * request. */
#pragma once

#include <gio/gio.h>

struct fake_qmp_script {
        guint ports;                /* free pcie-root-ports; default 2 */
        guint pmem_ports;           /* free ones more, which are meant for virtio-pmem */
        gboolean no_ivshmem;        /* device_add is refused */
        gboolean no_maxmem;         /* device_add of virtio-pmem is refused */
        guint stuck;                /* so many device_del are taken and never done */
        guint in_use;               /* so many object-del are refused after the device has gone */
        const char *say_instead;    /* answered to the next command in place of an answer */
        gboolean close_instead;     /* the next command closes the connection */
        const char *const *backing; /* what its disks stand on; NULL: it does not know the question */
        gboolean hold_device;       /* device_add is done, and not answered before fake_qmp_go_on() */
};

typedef struct FakeQmp FakeQmp;
FakeQmp *fake_qmp_new(const char *name, const char *path, GPtrArray *log);
void fake_qmp_free(FakeQmp *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FakeQmp, fake_qmp_free)
struct fake_qmp_script *fake_qmp_script(FakeQmp *q);
/* Path that window N shows, or NULL. */
const char *fake_qmp_window(const FakeQmp *q, guint n);
/* Whether it is persistent memory. */
gboolean fake_qmp_is_pmem(const FakeQmp *q, guint n);
guint fake_qmp_objects(const FakeQmp *q);
/* As an earlier daemon left it. */
void fake_qmp_leave(FakeQmp *q, guint n, const char *path);
/* What was left is persistent memory. */
void fake_qmp_make_pmem(FakeQmp *q, guint n);
/* Ends a hold. */
void fake_qmp_go_on(FakeQmp *q);
/* True while a client is connected. */
gboolean fake_qmp_is_held(const FakeQmp *q);
