/* host-service/cli/progress_meter.c - how far, how fast, how long still: arithmetic only, time is an input.
 */
#include "host-service/cli/progress_meter.h"

#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

#include "host-service/cli/text.h"

#define SAMPLE_US 200000 /* shorter samples are noise */
#define SMOOTH_S  3.0    /* time constant of the moving average */
#define BAR_WIDTH 20
#define ETA_MAX_S (99 * 3600) /* longer is a guess, not an answer */

void progress_meter_update(struct progress_meter *m, int64_t now_us, uint64_t done, uint64_t total)
{
        if (done < m->done || m->sampled_us == 0 || done < m->sampled_done) {
                m->rate = 0;
                m->sampled_us = now_us;
                m->sampled_done = done;
        } else if (now_us - m->sampled_us >= SAMPLE_US) {
                double seconds = (double)(now_us - m->sampled_us) / 1e6;
                double rate = (double)(done - m->sampled_done) / seconds;
                double weight = m->rate > 0 ? 1 - exp(-seconds / SMOOTH_S) : 1;

                m->rate += weight * (rate - m->rate);
                m->sampled_us = now_us;
                m->sampled_done = done;
        }
        m->done = done;
        m->total = total;
}

double progress_meter_percent(const struct progress_meter *m)
{
        if (m->total == 0)
                return -1;
        if (m->done >= m->total)
                return 100;
        /* 99.96 would be printed as 100.0. */
        return MIN((double)m->done * 100.0 / (double)m->total, 99.9);
}

int64_t progress_meter_eta_s(const struct progress_meter *m)
{
        if (m->total == 0)
                return -1;
        if (m->done >= m->total)
                return 0;
        if (m->rate < 1)
                return -1;
        double s = ceil((double)(m->total - m->done) / m->rate);
        return s <= ETA_MAX_S ? (int64_t)s : -1;
}

static void append_bar(GString *s, double percent)
{
        unsigned full = (unsigned)(percent / 100.0 * BAR_WIDTH);

        g_string_append(s, "  [");
        for (unsigned i = 0; i < BAR_WIDTH; i++)
                g_string_append_c(s, i < full ? '=' : i == full ? '>' : ' ');
        g_string_append_printf(s, "] %3u%%", (unsigned)percent);
}

char *progress_meter_line(const struct progress_meter *m, const char *key, const char *phase,
                          unsigned columns)
{
        GString *s = g_string_new(NULL);
        g_autofree char *done = text_bytes(m->done);
        g_autofree char *total = text_bytes(m->total);
        g_autofree char *rate = text_bytes((uint64_t)m->rate);
        double percent = progress_meter_percent(m);
        int64_t eta_s = progress_meter_eta_s(m);

        g_string_append_printf(s, "%s%s%-10s", key, *key ? "  " : "", phase);
        if (percent >= 0) {
                append_bar(s, percent);
                g_string_append_printf(s, "  %s of %s", done, total);
        } else if (m->done > 0) {
                g_string_append_printf(s, "  %s", done);
        }
        if (m->rate >= 1)
                g_string_append_printf(s, "  %s/s", rate);
        if (eta_s > 0) {
                g_autofree char *left = text_duration_us((uint64_t)eta_s * 1000000);

                g_string_append_printf(s, "  %s left", left);
        }
        while (s->len > 0 && s->str[s->len - 1] == ' ')
                g_string_truncate(s, s->len - 1);
        if ((unsigned long)g_utf8_strlen(s->str, -1) > columns)
                g_string_truncate(s, (gsize)(g_utf8_offset_to_pointer(s->str, columns) - s->str));
        return g_string_free(s, FALSE);
}

char *progress_meter_json(const struct progress_meter *m, const char *key, const char *phase)
{
        g_autoptr(JsonBuilder) b = json_builder_new();
        double percent = progress_meter_percent(m);
        int64_t eta_s = progress_meter_eta_s(m);

        json_builder_begin_object(b);
        json_builder_set_member_name(b, "progress");
        json_builder_add_string_value(b, key);
        json_builder_set_member_name(b, "phase");
        json_builder_add_string_value(b, phase);
        json_builder_set_member_name(b, "percent");
        if (percent >= 0)
                json_builder_add_int_value(b, (gint64)percent);
        else
                json_builder_add_null_value(b);
        json_builder_set_member_name(b, "bytes");
        json_builder_add_int_value(b, (gint64)m->done);
        json_builder_set_member_name(b, "total");
        json_builder_add_int_value(b, (gint64)m->total);
        json_builder_set_member_name(b, "rate");
        json_builder_add_int_value(b, (gint64)m->rate);
        json_builder_set_member_name(b, "eta_s");
        if (eta_s >= 0)
                json_builder_add_int_value(b, eta_s);
        else
                json_builder_add_null_value(b);
        json_builder_end_object(b);
        g_autoptr(JsonNode) root = json_builder_get_root(b);
        return json_to_string(root, FALSE);
}
