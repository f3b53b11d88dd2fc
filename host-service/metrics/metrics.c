/* host-service/metrics/metrics.c - the counts, and the page that shows them. */
#include "host-service/metrics/metrics.h"

#include "common/events.h"
#include "host-service/catalogue/counts.h"
#include "host-service/catalogue/event_log.h"
#include "host-service/metrics/exposition.h"
#include "host-service/metrics/loop_watch.h"
#include "host-service/metrics/process_facts.h"

#define LABEL_SETS_MAX 1000
/* Ends of pushes are counted this long after they are written, in one go. */
#define FOLLOW_MS 1000

static const double duration_bounds[] = {1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600};
static const double switch_bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};
static const double request_bounds[] = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10};
static const double loop_bounds[] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};

struct Metrics {
        const struct host_env *env;
        Catalogue *catalogue;
        LoopWatch *loop_watch;
        GSource *follow;
        gint64 counted; /* the last event whose push was counted */
        gint64 started_us;
        Tally *pushes, *push_bytes, *requests, *schedule_runs;
        guint64 transport_changes;
        struct histogram push_time, stage_time, switch_time, request_time, loop_time;
        GMutex lock; /* of log_events: every thread logs */
        Tally *log_events;
};

static double seconds(gint64 us)
{
        return (double)us / G_USEC_PER_SEC;
}

static const char *source_name(int source)
{
        static const char *const names[] = {
                [MOULT__SOURCE_KIND__SOURCE_IVSHMEM] = "ivshmem",
                [MOULT__SOURCE_KIND__SOURCE_TLS] = "tls",
                [MOULT__SOURCE_KIND__SOURCE_SERIAL] = "virtio-serial",
                [MOULT__SOURCE_KIND__SOURCE_FILE] = "file",
                [MOULT__SOURCE_KIND__SOURCE_PMEM] = "pmem",
        };

        return source > 0 && (guint)source < G_N_ELEMENTS(names) ? names[source] : "none";
}

static const char *kind_of(const PushRecord *r)
{
        return r->options.rollback ? "rollback" : r->options.dry_run ? "dry-run" : "push";
}

static void count_push(Metrics *m, const PushRecord *r)
{
        g_autofree char *ended =
                exposition_labels("kind", kind_of(r), "result", push_state_name(r->state), NULL);
        g_autofree char *transport = exposition_labels("transport", source_name(r->source), NULL);

        tally_add(m->pushes, ended, 1);
        if (r->options.dry_run)
                return;
        histogram_observe(&m->push_time, seconds(r->updated_us - r->created_us));
        tally_add(m->push_bytes, transport, r->bytes_done);
        m->transport_changes += r->source_changes;
        if (r->staging_us)
                histogram_observe(&m->stage_time, seconds((gint64)r->staging_us));
        if (r->switch_us)
                histogram_observe(&m->switch_time, seconds((gint64)r->switch_us));
}

static const char *const schedule_results[] = {"succeeded", "failed"};

static void count_schedule(Metrics *m, const char *result, gint64 n)
{
        g_autofree char *labels = exposition_labels("result", result, NULL);

        tally_add(m->schedule_runs, labels, (guint64)n);
}

static void count_schedules(Metrics *m, gint64 after, gint64 until)
{
        for (guint i = 0; i < G_N_ELEMENTS(schedule_results); i++) {
                g_autofree char *type = g_strconcat("schedule.", schedule_results[i], NULL);

                count_schedule(m, schedule_results[i],
                               catalogue_event_count(m->catalogue, type, after, until));
        }
}

static gboolean count_ended(Metrics *m, GError **error)
{
        gint64 before = m->counted;
        g_autoptr(GPtrArray) ended = catalogue_push_list_ended(m->catalogue, m->counted, &m->counted, error);

        for (guint i = 0; ended && i < ended->len; i++)
                count_push(m, ended->pdata[i]);
        if (ended)
                count_schedules(m, before, m->counted);
        return ended != NULL;
}

static gboolean on_follow(gpointer user)
{
        Metrics *m = user;

        host_timer_clear(&m->follow);
        count_ended(m, NULL); /* if the catalogue cannot be read, the next time counts them */
        return G_SOURCE_REMOVE;
}

static void on_events(gint64 last_seq, gpointer user)
{
        Metrics *m = user;

        if (!m->follow)
                m->follow = host_timer_add(m->env, FOLLOW_MS, on_follow, m);
}

static void on_log(EventLevel level, const char *event_id, gpointer user)
{
        static const char *const names[] = {"debug", "info", "notice", "warning", "error"};
        Metrics *m = user;
        g_autofree char *labels = NULL;

        if (level < EVENT_NOTICE)
                return;
        labels = exposition_labels("event", event_id, "level", names[level], NULL);
        g_mutex_lock(&m->lock);
        tally_add(m->log_events, labels, 1);
        g_mutex_unlock(&m->lock);
}

static void on_turn(gint64 turn_us, gpointer user)
{
        Metrics *m = user;

        histogram_observe(&m->loop_time, seconds(turn_us));
}

/* Each way that a push may take and end is there from the start, so that the first failure is a rise from 0.
 */
static void name_all(Metrics *m)
{
        static const char *const kinds[] = {"push", "rollback", "dry-run"};

        for (guint k = 0; k < G_N_ELEMENTS(kinds); k++)
                for (PushState s = PUSH_STATE_DONE; s < PUSH_STATE_MAX; s++) {
                        g_autofree char *labels =
                                exposition_labels("kind", kinds[k], "result", push_state_name(s), NULL);

                        tally_add(m->pushes, labels, 0);
                }
        for (guint i = 0; i < G_N_ELEMENTS(schedule_results); i++)
                count_schedule(m, schedule_results[i], 0);
        for (int s = MOULT__SOURCE_KIND__SOURCE_IVSHMEM; s <= MOULT__SOURCE_KIND__SOURCE_PMEM; s++) {
                g_autofree char *labels = exposition_labels("transport", source_name(s), NULL);

                tally_add(m->push_bytes, labels, 0);
        }
}

Metrics *metrics_new(const struct host_env *env, Catalogue *c)
{
        Metrics *m = g_new0(Metrics, 1);

        m->env = env;
        m->catalogue = c;
        m->counted = catalogue_event_last(c);
        m->started_us = host_wall_us(env);
        m->pushes = tally_new(LABEL_SETS_MAX);
        m->push_bytes = tally_new(LABEL_SETS_MAX);
        m->requests = tally_new(LABEL_SETS_MAX);
        m->schedule_runs = tally_new(LABEL_SETS_MAX);
        m->log_events = tally_new(LABEL_SETS_MAX);
        m->push_time = histogram_new(duration_bounds, G_N_ELEMENTS(duration_bounds));
        m->stage_time = histogram_new(duration_bounds, G_N_ELEMENTS(duration_bounds));
        m->switch_time = histogram_new(switch_bounds, G_N_ELEMENTS(switch_bounds));
        m->request_time = histogram_new(request_bounds, G_N_ELEMENTS(request_bounds));
        m->loop_time = histogram_new(loop_bounds, G_N_ELEMENTS(loop_bounds));
        g_mutex_init(&m->lock);
        name_all(m);
        catalogue_listen(c, on_events, m);
        event_set_observer(on_log, m);
        m->loop_watch = loop_watch_new(env, on_turn, m);
        return m;
}

void metrics_free(Metrics *m)
{
        if (!m)
                return;
        event_set_observer(NULL, NULL);
        catalogue_unlisten(m->catalogue, on_events, m);
        loop_watch_free(m->loop_watch);
        host_timer_clear(&m->follow);
        tally_free(m->pushes);
        tally_free(m->push_bytes);
        tally_free(m->requests);
        tally_free(m->schedule_runs);
        tally_free(m->log_events);
        g_mutex_clear(&m->lock);
        g_free(m);
}

void metrics_request(Metrics *m, const char *method, const char *route, guint status, gint64 took_us)
{
        /* A method or path that is none of ours is the client's own words. */
        g_autofree char *code = g_strdup_printf("%u", status);
        g_autofree char *labels = exposition_labels("code", code, "method", route ? method : "other", "route",
                                                    route ? route : "other", NULL);

        tally_add(m->requests, labels, 1);
        if (took_us >= 0)
                histogram_observe(&m->request_time, seconds(took_us));
}

static void add_guests(GString *out, const struct catalogue_counts *n, const struct metrics_view *v)
{
        exposition_gauge(out, "moult_vms", "VMs that moultd knows.", (double)n->vms);
        exposition_family(out, "moult_vms_connected", "gauge",
                          "VMs whose agent has a session, by transport.");
        exposition_sample(out, "moult_vms_connected", "transport=\"tls\"", v->vms_tls);
        exposition_sample(out, "moult_vms_connected", "transport=\"virtio-serial\"", v->vms_serial);
        exposition_gauge(out, "moult_vms_qmp_connected", "VMs whose QMP socket answers.", v->vms_qmp);
        exposition_gauge(out, "moult_vms_drifting",
                         "VMs in which the last check found what was done by hand.",
                         (double)n->drift[DRIFT_DRIFTS]);
        exposition_gauge(out, "moult_vms_in_step", "VMs in which the last check found nothing of that.",
                         (double)n->drift[DRIFT_IN_STEP]);
}

static void add_queues(GString *out, const struct catalogue_counts *n)
{
        exposition_family(out, "moult_pushes_unfinished", "gauge", "Pushes that have not ended, by state.");
        for (PushState s = 0; s < PUSH_STATE_DONE; s++) {
                g_autofree char *labels = exposition_labels("state", push_state_name(s), NULL);

                exposition_sample(out, "moult_pushes_unfinished", labels, (double)n->pushes[s]);
        }
        exposition_family(out, "moult_operations_unfinished", "gauge",
                          "Operations that have not ended, by state.");
        for (OperationState s = 0; s < OPERATION_SUCCEEDED; s++) {
                g_autofree char *labels = exposition_labels("state", operation_state_name(s), NULL);

                exposition_sample(out, "moult_operations_unfinished", labels, (double)n->operations[s]);
        }
}

static void add_pushes(GString *out, const Metrics *m)
{
        exposition_tally(out, "moult_pushes_total", "Pushes that have ended, by kind and result.", m->pushes);
        exposition_histogram(out, "moult_push_duration_seconds",
                             "From the request to the end of a push or rollback, with the time it waited.",
                             &m->push_time);
        exposition_histogram(out, "moult_push_staging_seconds", "Copying and verifying in the guest.",
                             &m->stage_time);
        exposition_histogram(out, "moult_push_switch_seconds",
                             "From the first exchanged name in the guest to the last one.", &m->switch_time);
        exposition_tally(out, "moult_push_bytes_total",
                         "Bytes that pushes have staged, by the transport that they read from last.",
                         m->push_bytes);
        exposition_counter(out, "moult_push_transport_changes_total",
                           "How often a push had to go on over another transport.",
                           (double)m->transport_changes);
}

static void add_schedules(GString *out, const Metrics *m, const struct catalogue_counts *n)
{
        exposition_gauge(out, "moult_snapshot_schedules", "VMs of which snapshots are taken by themselves.",
                         (double)n->schedules);
        exposition_gauge(out, "moult_snapshot_schedules_failing",
                         "Of these, those whose last snapshot, or what was to follow it, has failed.",
                         (double)n->schedules_failing);
        exposition_tally(out, "moult_snapshot_schedule_runs_total",
                         "Snapshots that schedules have asked for and that are over, by result.",
                         m->schedule_runs);
}

static void add_store(GString *out, const Metrics *m, const struct catalogue_counts *n)
{
        struct host_disk_usage disk = {0};

        exposition_gauge(out, "moult_releases", "Releases in the store.", (double)n->releases);
        exposition_gauge(out, "moult_store_bytes", "Bytes of the releases' packs.", (double)n->release_bytes);
        exposition_gauge(out, "moult_catalogue_bytes", "Size of the catalogue's database.",
                         (double)n->file_bytes);
        if (!m->env->disk->usage || !m->env->disk->usage(m->env->self, &disk, NULL))
                return;
        exposition_gauge(out, "moult_state_free_bytes", "What moultd may still write to its state directory.",
                         (double)disk.free_bytes);
        exposition_gauge(out, "moult_state_size_bytes", "Size of the state directory's file system.",
                         (double)disk.size_bytes);
}

static void add_service(GString *out, Metrics *m, const struct catalogue_counts *n,
                        const struct metrics_view *v)
{
        g_autofree char *version = exposition_labels("version", MOULT_VERSION, NULL);

        exposition_family(out, "moult_build_info", "gauge", "The program; always 1.");
        exposition_sample(out, "moult_build_info", version, 1);
        exposition_counter(out, "moult_events_total", "The number of the newest event.", (double)n->events);
        exposition_gauge(out, "moult_trusted_keys", "Public keys whose releases are taken.", v->trusted_keys);
        g_mutex_lock(&m->lock);
        exposition_tally(out, "moult_log_events_total",
                         "Logged events of level notice and above, by id (docs/events.md).", m->log_events);
        g_mutex_unlock(&m->lock);
        exposition_histogram(out, "moult_event_loop_lag_seconds",
                             "How long one turn of the event loop kept everything else waiting.",
                             &m->loop_time);
        exposition_tally(out, "moult_api_requests_total", "Answered requests, by route and status code.",
                         m->requests);
        exposition_histogram(out, "moult_api_request_duration_seconds",
                             "From a request's headers to the end of its answer; without event streams.",
                             &m->request_time);
        exposition_gauge(out, "moult_api_connections", "Connections to the API.", v->connections);
        exposition_gauge(out, "moult_api_event_streams", "Event streams that are open.", v->streams);
        process_facts_add(out, seconds(m->started_us));
}

char *metrics_text(Metrics *m, const struct metrics_view *view, GError **error)
{
        g_autoptr(GString) out = g_string_new(NULL);
        struct catalogue_counts n;

        if (!count_ended(m, error) || !catalogue_count(m->catalogue, &n, error))
                return NULL;
        add_guests(out, &n, view);
        add_queues(out, &n);
        add_pushes(out, m);
        add_schedules(out, m, &n);
        add_store(out, m, &n);
        add_service(out, m, &n, view);
        return g_string_free(g_steal_pointer(&out), FALSE);
}
