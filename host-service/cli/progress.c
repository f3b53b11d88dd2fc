/* host-service/cli/progress.c - progress on standard error: bars on a terminal, lines elsewhere, JSON for
 * programs. */
#include "host-service/cli/progress.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "host-service/cli/progress_meter.h"

struct row {
        char *key, *phase;
        struct progress_meter meter;
        int64_t shown_us; /* when its line was last printed */
};

struct Progress {
        FILE *f;
        CliProgress how; /* never AUTO */
        GPtrArray *rows;
        unsigned lines; /* bars on the screen */
        int64_t drawn_us;
};

#define BAR_INTERVAL_US   100000
#define JSON_INTERVAL_US  200000
#define PLAIN_INTERVAL_US 5000000
#define ROWS_SHOWN        20 /* more VMs than a screen has lines are counted, not drawn */

static void row_free(gpointer data)
{
        struct row *r = data;

        g_free(r->key);
        g_free(r->phase);
        g_free(r);
}

Progress *progress_new(const Cli *cli)
{
        Progress *p = g_new0(Progress, 1);

        p->f = cli->err;
        p->how = cli->progress;
        if (p->how == CLI_PROGRESS_AUTO && isatty(fileno(p->f)))
                p->how = CLI_PROGRESS_BAR;
        else if (p->how == CLI_PROGRESS_AUTO)
                /* A program that reads our errors as objects should find nothing else there. */
                p->how = cli->format == CLI_FORMAT_TABLE ? CLI_PROGRESS_PLAIN : CLI_PROGRESS_NONE;
        p->rows = g_ptr_array_new_with_free_func(row_free);
        return p;
}

static void erase(Progress *p)
{
        if (p->lines > 0)
                fprintf(p->f, "\033[%uA\033[J", p->lines);
        p->lines = 0;
}

static unsigned columns(const Progress *p)
{
        struct winsize size;

        return ioctl(fileno(p->f), TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col - 1u : 79;
}

static void draw(Progress *p)
{
        unsigned width = columns(p), shown = MIN(p->rows->len, ROWS_SHOWN);

        erase(p);
        for (unsigned i = 0; i < shown; i++) {
                const struct row *r = g_ptr_array_index(p->rows, i);
                g_autofree char *line = progress_meter_line(&r->meter, r->key, r->phase, width);

                fprintf(p->f, "%s\n", line);
        }
        if (p->rows->len > shown)
                fprintf(p->f, "and %u more\n", p->rows->len - shown);
        p->lines = shown + (p->rows->len > shown);
        fflush(p->f);
}

void progress_free(Progress *p)
{
        if (!p)
                return;
        erase(p);
        fflush(p->f);
        g_ptr_array_unref(p->rows);
        g_free(p);
}

static struct row *find_row(Progress *p, const char *key)
{
        for (guint i = 0; i < p->rows->len; i++) {
                struct row *r = g_ptr_array_index(p->rows, i);

                if (!strcmp(r->key, key))
                        return r;
        }
        struct row *r = g_new0(struct row, 1);
        r->key = g_strdup(key);
        r->phase = g_strdup("");
        g_ptr_array_add(p->rows, r);
        return r;
}

void progress_update(Progress *p, const char *key, const char *phase, uint64_t done, uint64_t total)
{
        struct row *r = find_row(p, key);
        int64_t now_us = g_get_monotonic_time();
        gboolean phase_is_new = strcmp(r->phase, phase) != 0;
        gboolean all_done = total > 0 && done >= total && r->meter.done < total;

        if (phase_is_new) {
                g_free(r->phase);
                r->phase = g_strdup(phase);
                r->meter = (struct progress_meter){0};
        }
        progress_meter_update(&r->meter, now_us, done, total);
        switch (p->how) {
        case CLI_PROGRESS_BAR:
                if (!phase_is_new && !all_done && now_us - p->drawn_us < BAR_INTERVAL_US)
                        return;
                p->drawn_us = now_us;
                draw(p);
                return;
        case CLI_PROGRESS_JSON:
                if (phase_is_new || all_done || now_us - r->shown_us >= JSON_INTERVAL_US) {
                        g_autofree char *line = progress_meter_json(&r->meter, key, phase);

                        r->shown_us = now_us;
                        fprintf(p->f, "%s\n", line);
                        fflush(p->f);
                }
                return;
        case CLI_PROGRESS_PLAIN:
                if (phase_is_new || now_us - r->shown_us >= PLAIN_INTERVAL_US) {
                        g_autofree char *line = progress_meter_line(&r->meter, key, phase, 200);

                        r->shown_us = now_us;
                        fprintf(p->f, "%s\n", line);
                        fflush(p->f);
                }
                return;
        case CLI_PROGRESS_AUTO:
        case CLI_PROGRESS_NONE:
                return;
        }
}

void progress_say(Progress *p, const char *format, ...)
{
        va_list args;

        if (p->how == CLI_PROGRESS_JSON || p->how == CLI_PROGRESS_NONE)
                return;
        erase(p);
        va_start(args, format);
        vfprintf(p->f, format, args);
        va_end(args);
        fputc('\n', p->f);
        if (p->how == CLI_PROGRESS_BAR)
                draw(p);
        fflush(p->f);
}
