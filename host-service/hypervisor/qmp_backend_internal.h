/* host-service/hypervisor/qmp_backend_internal.h - what the files of the QMP backend share; for them only.
 *
 * qmp_backend.c: queue and events. qmp_plug.c: plugging. qmp_unplug.c: the survey, and taking off. */
#pragma once

#include "host-service/hypervisor/hypervisor.h"
#include "host-service/hypervisor/monitor.h"
#include "host-service/hypervisor/window_survey.h"

#define UNPLUG_DEADLINES 3u /* waits for DEVICE_DELETED that may pass in vain */

typedef struct QmpBackend QmpBackend;

typedef struct {
        enum { OP_STATUS, OP_BACKING, OP_COMMAND, OP_DISKS, OP_PLUG, OP_UNPLUG } kind;
        char *path;
        guint64 size_bytes;
        HypervisorWindow window;
        hypervisor_done_func done;
        hypervisor_status_func status_done;
        hypervisor_files_func files_done;
        char **files;          /* BACKING: what was answered */
        char *command;         /* COMMAND */
        VirtDisks what;        /* DISKS */
        JsonObject *arguments; /* of both, until they are sent; what was answered */
        JsonNode *reply;
        hypervisor_reply_func reply_done;
        gpointer user;
} Op;

struct QmpBackend {
        Hypervisor base;
        const struct host_env *env;
        Monitor *monitor;
        GQueue queue; /* of Op; the head runs */
        gboolean running;
        guint lost, lost_max; /* so often this operation began anew because the connection broke; may so */
        GSource *kick;        /* starts the head from the loop */
        gboolean plugged;     /* something of ours that can go is, or may be, in the VM */
        GPtrArray *kept;      /* paths of what could not be taken off, at the last unplug */

        struct survey survey;
        guint cursor; /* slot or port that the present step is at */
        GSource *wait;
        guint deadlines, passes; /* waits for DEVICE_DELETED in vain; rounds of asking in all */
        guint object_tries;
        guint staying;           /* bit for each slot whose window is not to be, or cannot be, taken off */
        char *refusal;           /* QEMU's word on that */
        gboolean taking_windows; /* else objects */
        gboolean deleted;        /* DEVICE_DELETED came while we were still asking */
        int slot;
        char *port;
        GError *add_error;
};

/* Ends the running operation: the backend may be gone afterwards. */
void qmp_backend_finish(QmpBackend *b, HypervisorStatus status, const GError *error);
/* As above. An absent QEMU is a state, not a failure, for those operations that it can be one for. */
void qmp_backend_fail(QmpBackend *b, const GError *error, const char *doing);
const Op *qmp_backend_op(QmpBackend *b);

/* One command with @b as the callback's user; takes over @arguments. */
void qmp_backend_execute(QmpBackend *b, const char *command, JsonObject *arguments, monitor_reply_func done);
JsonObject *qmp_backend_args(const char *name, const char *value);
/* QEMU answered, and said no: nothing was done, and the next step can be decided. */
gboolean qmp_backend_is_refusal(const GError *error);

/* Begins (again) to look at what is there; goes on with qmp_plug_surveyed() or qmp_unplug_surveyed(), by
 * operation. */
void qmp_survey(QmpBackend *b);
void qmp_plug_surveyed(QmpBackend *b);
void qmp_unplug_surveyed(QmpBackend *b);
/* Asks once for everything of the survey to go, waits, and looks again. */
void qmp_unplug_step(QmpBackend *b);
/* False once @deadlines waits (or as many refusals as are patient) were in vain. */
gboolean qmp_unplug_may_try(const QmpBackend *b, guint deadlines);
/* DEVICE_DELETED of a window of ours. */
void qmp_unplug_deleted(QmpBackend *b);
