/* host-service/cli/sse.c - server-sent events out of a stream of bytes. */
#include "host-service/cli/sse.h"

#include <string.h>

#define EVENT_MAX (16u * 1024u * 1024u)

struct SseParser {
        sse_func on_event;
        gpointer user;
        GString *line, *data, *type;
        char *id;
        gboolean has_data, after_cr;
};

SseParser *sse_parser_new(sse_func on_event, gpointer user)
{
        SseParser *p = g_new0(SseParser, 1);

        p->on_event = on_event;
        p->user = user;
        p->line = g_string_new(NULL);
        p->data = g_string_new(NULL);
        p->type = g_string_new(NULL);
        return p;
}

void sse_parser_free(SseParser *p)
{
        if (!p)
                return;
        g_string_free(p->line, TRUE);
        g_string_free(p->data, TRUE);
        g_string_free(p->type, TRUE);
        g_free(p->id);
        g_free(p);
}

static void end_event(SseParser *p)
{
        if (p->has_data) {
                const struct sse_event e = {p->id, p->type->len ? p->type->str : "message", p->data->str};

                p->on_event(&e, p->user);
        }
        g_string_truncate(p->data, 0);
        g_string_truncate(p->type, 0);
        p->has_data = FALSE;
}

static void end_line(SseParser *p)
{
        char *line = p->line->str, *colon = strchr(line, ':');
        const char *value = "";

        if (p->line->len == 0) {
                end_event(p);
                return;
        }
        if (colon) {
                *colon = '\0';
                value = colon[1] == ' ' ? colon + 2 : colon + 1;
        }
        if (!strcmp(line, "data")) {
                g_string_append_printf(p->data, "%s%s", p->has_data ? "\n" : "", value);
                p->has_data = TRUE;
        } else if (!strcmp(line, "event")) {
                g_string_assign(p->type, value);
        } else if (!strcmp(line, "id")) {
                g_free(p->id);
                p->id = g_strdup(value);
        }
        g_string_truncate(p->line, 0);
}

gboolean sse_parser_feed(SseParser *p, const char *bytes, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                char c = bytes[i];
                gboolean second_half = c == '\n' && p->after_cr;

                p->after_cr = c == '\r';
                if (second_half)
                        continue;
                if (c == '\n' || c == '\r')
                        end_line(p);
                else
                        g_string_append_c(p->line, c);
                if (p->line->len + p->data->len > EVENT_MAX)
                        return FALSE;
        }
        return TRUE;
}
