/* host-service/metrics/exposition.h - the text format that Prometheus reads, version 0.0.4.
 *
 * Names and helps are our own literals; label values may hold anything. */
#pragma once

#include <glib.h>

#define EXPOSITION_TYPE       "text/plain; version=0.0.4; charset=utf-8"
#define HISTOGRAM_BUCKETS_MAX 16

/* How often values were at most each of the bounds. */
struct histogram {
        const double *bounds; /* ascending, static */
        guint n_bounds;
        guint64 counts[HISTOGRAM_BUCKETS_MAX + 1]; /* each value in one of them; the last: above all bounds */
        double sum;
};

/* Counters of one family by their labels. */
typedef struct tally Tally;

/* At most @bounds_len bounds of HISTOGRAM_BUCKETS_MAX. */
struct histogram histogram_new(const double *bounds, guint bounds_len);
void histogram_observe(struct histogram *h, double value);

/* At most @max different sets of labels; what is beyond them counts under `other="true"`, so that no peer can
 * make the page grow. */
Tally *tally_new(guint max);
void tally_free(Tally *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Tally, tally_free)
/* @labels: of exposition_labels(). */
void tally_add(Tally *t, const char *labels, guint64 n);
guint64 tally_get(const Tally *t, const char *labels);

/* `name="value",...` from names and values, ended by NULL; owned by the caller. */
char *exposition_labels(const char *name, const char *value, ...) G_GNUC_NULL_TERMINATED;
/* @type: "counter" or "gauge". */
void exposition_family(GString *out, const char *name, const char *type, const char *help);
/* @labels NULL: none. */
void exposition_sample(GString *out, const char *name, const char *labels, double value);
/* A family of one sample without labels. */
void exposition_gauge(GString *out, const char *name, const char *help, double value);
void exposition_counter(GString *out, const char *name, const char *help, double value);
void exposition_histogram(GString *out, const char *name, const char *help, const struct histogram *h);
/* The samples of @t, sorted by their labels, after a family line. */
void exposition_tally(GString *out, const char *name, const char *help, const Tally *t);
