/* host-service/metrics/exposition.c - the text format that Prometheus reads. */
#include "host-service/metrics/exposition.h"

#include <stdarg.h>
#include <string.h>

#define OTHER "other=\"true\""

struct tally {
        GHashTable *counts; /* labels -> guint64 */
        guint max;
};

struct histogram histogram_new(const double *bounds, guint bounds_len)
{
        g_assert(bounds_len <= HISTOGRAM_BUCKETS_MAX);
        return (struct histogram){.bounds = bounds, .n_bounds = bounds_len};
}

void histogram_observe(struct histogram *h, double value)
{
        guint i = 0;

        while (i < h->n_bounds && value > h->bounds[i])
                i++;
        h->counts[i]++;
        h->sum += value;
}

Tally *tally_new(guint max)
{
        Tally *t = g_new0(Tally, 1);

        t->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        t->max = max;
        return t;
}

void tally_free(Tally *t)
{
        if (!t)
                return;
        g_hash_table_unref(t->counts);
        g_free(t);
}

void tally_add(Tally *t, const char *labels, guint64 n)
{
        guint64 *count = g_hash_table_lookup(t->counts, labels);

        if (!count && g_hash_table_size(t->counts) >= t->max) {
                labels = OTHER;
                count = g_hash_table_lookup(t->counts, labels);
        }
        if (!count) {
                count = g_new0(guint64, 1);
                g_hash_table_insert(t->counts, g_strdup(labels), count);
        }
        *count += n;
}

guint64 tally_get(const Tally *t, const char *labels)
{
        const guint64 *count = g_hash_table_lookup(t->counts, labels);

        return count ? *count : 0;
}

static void append_escaped(GString *out, const char *value)
{
        g_autofree char *valid = g_utf8_make_valid(value, -1);

        for (const char *p = valid; *p; p++) {
                if (*p == '\n')
                        g_string_append(out, "\\n");
                else if (*p == '"' || *p == '\\')
                        g_string_append_printf(out, "\\%c", *p);
                else
                        g_string_append_c(out, *p);
        }
}

char *exposition_labels(const char *name, const char *value, ...)
{
        GString *out = g_string_new(NULL);
        va_list ap;

        va_start(ap, value);
        while (name) {
                g_string_append_printf(out, "%s%s=\"", out->len ? "," : "", name);
                append_escaped(out, value);
                g_string_append_c(out, '"');
                name = va_arg(ap, const char *);
                value = name ? va_arg(ap, const char *) : NULL;
        }
        va_end(ap);
        return g_string_free(out, FALSE);
}

void exposition_family(GString *out, const char *name, const char *type, const char *help)
{
        g_string_append_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void exposition_sample(GString *out, const char *name, const char *labels, double value)
{
        char text[G_ASCII_DTOSTR_BUF_SIZE];

        g_ascii_formatd(text, sizeof text, "%.15g", value);
        if (labels && *labels)
                g_string_append_printf(out, "%s{%s} %s\n", name, labels, text);
        else
                g_string_append_printf(out, "%s %s\n", name, text);
}

void exposition_gauge(GString *out, const char *name, const char *help, double value)
{
        exposition_family(out, name, "gauge", help);
        exposition_sample(out, name, NULL, value);
}

void exposition_counter(GString *out, const char *name, const char *help, double value)
{
        exposition_family(out, name, "counter", help);
        exposition_sample(out, name, NULL, value);
}

void exposition_histogram(GString *out, const char *name, const char *help, const struct histogram *h)
{
        g_autofree char *bucket = g_strconcat(name, "_bucket", NULL), *sum = g_strconcat(name, "_sum", NULL),
                        *count = g_strconcat(name, "_count", NULL);
        guint64 n = 0;

        exposition_family(out, name, "histogram", help);
        for (guint i = 0; i <= h->n_bounds; i++) {
                char bound[G_ASCII_DTOSTR_BUF_SIZE] = "+Inf";
                g_autofree char *labels = NULL;

                n += h->counts[i];
                if (i < h->n_bounds)
                        g_ascii_formatd(bound, sizeof bound, "%.15g", h->bounds[i]);
                labels = exposition_labels("le", bound, NULL);
                exposition_sample(out, bucket, labels, (double)n);
        }
        exposition_sample(out, sum, NULL, h->sum);
        exposition_sample(out, count, NULL, (double)n);
}

void exposition_tally(GString *out, const char *name, const char *help, const Tally *t)
{
        g_autoptr(GList) keys = g_list_sort(g_hash_table_get_keys(t->counts), (GCompareFunc)strcmp);

        exposition_family(out, name, "counter", help);
        for (GList *k = keys; k; k = k->next)
                exposition_sample(out, name, k->data, (double)tally_get(t, k->data));
}
