/* guest-agent/stale_report.c - what a look found, as the message that travels. */
#include "guest-agent/stale_report.h"

#include <string.h>

#include "proto/limits.h"

/* Of the report's bytes: so much is left to what comes later. The last has what is left. */
#define FOR_HEAD       1024u
#define FOR_RESTARTS   16384u
#define FOR_NAMESPACES 16384u
#define ERROR_MAX      512u

static ProtobufCBinaryData bytes_of(const char *text, gsize max)
{
        gsize len = text ? MIN(strlen(text), max) : 0;

        return (ProtobufCBinaryData){.len = len, .data = len ? g_memdup2(text, len) : NULL};
}

/* The list's next place, if a message of @size bytes fits beside what is there. */
static gboolean fits(gsize *left, const ProtobufCMessage *m)
{
        gsize size = protobuf_c_message_get_packed_size(m) + 8; /* its tag and length */

        if (size > *left)
                return FALSE;
        *left -= size;
        return TRUE;
}

static Moult__StaleProcess *process_new(const struct stale_found *f)
{
        Moult__StaleProcess *p = g_new(Moult__StaleProcess, 1);

        moult__stale_process__init(p);
        p->pid = (guint32)f->pid;
        p->command = bytes_of(f->command, LIMIT_STALE_COMMAND);
        p->unit = bytes_of(f->unit, LIMIT_STALE_UNIT);
        p->files_total = f->files_total;
        p->files = g_new0(ProtobufCBinaryData, f->files->len + 1);
        while (p->n_files < MIN(f->files->len, LIMIT_STALE_FILES)) {
                p->files[p->n_files] = bytes_of(f->files->pdata[p->n_files], LIMIT_PATH_BYTES + 1);
                p->n_files++;
        }
        return p;
}

static Moult__StaleNamespace *namespace_new(const struct stale_lagging *l)
{
        Moult__StaleNamespace *n = g_new(Moult__StaleNamespace, 1);

        moult__stale_namespace__init(n);
        n->inode = l->inode;
        n->processes = l->processes;
        n->pid = (guint32)l->pid;
        n->command = bytes_of(l->command, LIMIT_STALE_COMMAND);
        n->unit = bytes_of(l->unit, LIMIT_STALE_UNIT);
        n->mounts_total = l->mounts->len;
        n->mounts = g_new0(ProtobufCBinaryData, LIMIT_STALE_FILES);
        while (n->n_mounts < MIN(l->mounts->len, LIMIT_STALE_FILES)) {
                n->mounts[n->n_mounts] = bytes_of(l->mounts->pdata[n->n_mounts], LIMIT_PATH_BYTES + 1);
                n->n_mounts++;
        }
        return n;
}

static Moult__StaleRestart *restart_new(const struct stale_restart *s)
{
        Moult__StaleRestart *r = g_new(Moult__StaleRestart, 1);

        moult__stale_restart__init(r);
        r->unit = bytes_of(s->unit, LIMIT_STALE_UNIT);
        r->error = bytes_of(s->error, ERROR_MAX);
        return r;
}

static void add_restarts(Moult__StaleReport *r, const GPtrArray *restarts, GString *incomplete)
{
        guint n = restarts ? MIN(restarts->len, LIMIT_RESTART_UNITS) : 0;
        gsize left = FOR_RESTARTS;

        r->restarts = g_new0(Moult__StaleRestart *, n + 1);
        for (guint i = 0; i < n; i++) {
                Moult__StaleRestart *one = restart_new(restarts->pdata[i]);

                if (!fits(&left, &one->base)) {
                        moult__stale_restart__free_unpacked(one, NULL);
                        g_string_append_printf(incomplete, "%u more units were restarted; ",
                                               restarts->len - i);
                        return;
                }
                r->restarts[r->n_restarts++] = one;
        }
}

static gint by_pid(gconstpointer a, gconstpointer b)
{
        const struct stale_lagging *x = *(struct stale_lagging *const *)a,
                                   *y = *(struct stale_lagging *const *)b;

        return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static void add_namespaces(Moult__StaleReport *r, const StaleScan *scan)
{
        gsize left = FOR_NAMESPACES;

        g_ptr_array_sort(scan->namespaces, by_pid);
        r->namespaces_total = scan->namespaces->len;
        r->namespaces = g_new0(Moult__StaleNamespace *, LIMIT_STALE_NAMESPACES);
        for (guint i = 0; i < scan->namespaces->len && r->n_namespaces < LIMIT_STALE_NAMESPACES; i++) {
                Moult__StaleNamespace *n = namespace_new(scan->namespaces->pdata[i]);

                if (fits(&left, &n->base))
                        r->namespaces[r->n_namespaces++] = n;
                else
                        moult__stale_namespace__free_unpacked(n, NULL);
        }
}

static void add_processes(Moult__StaleReport *r, const StaleScan *scan)
{
        gsize left = LIMIT_STALE_BYTES - FOR_HEAD - FOR_RESTARTS - FOR_NAMESPACES;

        r->processes_total = scan->processes_total;
        r->processes = g_new0(Moult__StaleProcess *, LIMIT_STALE_PROCESSES);
        for (guint i = 0; i < scan->processes->len && r->n_processes < LIMIT_STALE_PROCESSES; i++) {
                Moult__StaleProcess *p = process_new(scan->processes->pdata[i]);

                if (fits(&left, &p->base))
                        r->processes[r->n_processes++] = p;
                else
                        moult__stale_process__free_unpacked(p, NULL);
        }
}

static void say_incomplete(GString *s, const StaleScan *scan)
{
        if (scan->stuck)
                g_string_append_printf(
                        s,
                        "process %" G_GINT64_FORMAT
                        " does not let itself be looked at (it, or a file system, hangs); it and "
                        "those after it are not in this report; ",
                        scan->stuck);
        if (scan->denied)
                g_string_append_printf(
                        s,
                        "%u processes could not be looked at as a whole (the first: %" G_GINT64_FORMAT "); ",
                        scan->denied, scan->denied_first);
        if (!scan->looked_at && !scan->stuck)
                g_string_append(s, "/proc cannot be read; ");
        if (s->len)
                g_string_truncate(s, s->len - 2);
}

Moult__StaleReport *stale_report_new(const StaleScan *scan, const GPtrArray *restarts)
{
        g_autoptr(GString) incomplete = g_string_new(NULL);
        Moult__StaleReport *r = g_new(Moult__StaleReport, 1);

        moult__stale_report__init(r);
        r->looked_at = scan->looked_at;
        add_restarts(r, restarts, incomplete);
        add_namespaces(r, scan);
        add_processes(r, scan);
        say_incomplete(incomplete, scan);
        r->incomplete = bytes_of(incomplete->str, ERROR_MAX);
        return r;
}
