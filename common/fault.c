/* common/fault.c - named points at which tests make the program die or a call fail.
 *
 * The rules are read from the environment once. A rule that cannot be read ends the program at its first
 * point: a campaign whose faults silently do not happen would prove nothing. */
#include "common/fault.h"

#ifdef MOULT_FAULT_POINTS
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RULES_MAX 64

enum action { ACTION_NONE, ACTION_KILL, ACTION_STOP, ACTION_HOLD, ACTION_EIO, ACTION_ENOSPC, ACTION_SKIP };

struct rule {
        char *name;
        unsigned at; /* 1-based passing; 0: each one ("NAME:*=ACTION") */
        enum action action;
        gint passed; /* atomic */
};

/* Written once under g_once, then read-only but for the counters. Process-wide on purpose: faults are named
 * from outside of the program, by its environment. */
struct fault_rules {
        struct rule rules[RULES_MAX];
        unsigned n;
        int trace_fd;
};

static enum action action_parse(const char *s)
{
        static const struct {
                const char *name;
                enum action action;
        } actions[] = {
                {"kill", ACTION_KILL}, {"stop", ACTION_STOP},     {"hold", ACTION_HOLD},
                {"eio", ACTION_EIO},   {"enospc", ACTION_ENOSPC}, {"skip", ACTION_SKIP},
        };
        for (gsize i = 0; i < G_N_ELEMENTS(actions); i++)
                if (strcmp(s, actions[i].name) == 0)
                        return actions[i].action;
        return ACTION_NONE;
}

static void rule_parse(struct fault_rules *f, const char *text)
{
        g_auto(GStrv) sides = g_strsplit(text, "=", 2);
        if (g_strv_length(sides) != 2 || f->n == RULES_MAX)
                g_error("MOULT_FAULT: \"%s\" is not NAME[:N]=ACTION, or there are too many of them", text);
        struct rule *r = &f->rules[f->n++];
        g_auto(GStrv) name = g_strsplit(sides[0], ":", 2);
        r->name = g_strdup(name[0]);
        r->at = 1;
        r->action = action_parse(sides[1]);
        if (g_strv_length(name) == 2) {
                char *end;
                unsigned long at = strtoul(name[1], &end, 10);
                r->at = strcmp(name[1], "*") == 0 ? 0 : (unsigned)at;
                if (r->at != 0 && (*end != '\0' || at > G_MAXINT))
                        r->action = ACTION_NONE;
                if (r->at == 0 && strcmp(name[1], "*") != 0)
                        r->action = ACTION_NONE;
        }
        if (r->action == ACTION_NONE || name[0] == NULL || name[0][0] == '\0')
                g_error("MOULT_FAULT: \"%s\" is not NAME[:N]=kill|stop|hold|eio|enospc|skip", text);
}

static gpointer rules_read(gpointer unused)
{
        static struct fault_rules f;
        const char *spec = getenv("MOULT_FAULT");
        const char *trace = getenv("MOULT_FAULT_TRACE");
        f.trace_fd = -1;
        if (spec != NULL && *spec != '\0') {
                g_auto(GStrv) texts = g_strsplit(spec, ",", -1);
                for (unsigned i = 0; texts[i] != NULL; i++)
                        rule_parse(&f, texts[i]);
        }
        if (trace != NULL && *trace != '\0') {
                f.trace_fd = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
                if (f.trace_fd < 0)
                        g_error("MOULT_FAULT_TRACE: opening %s: %s", trace, g_strerror(errno));
        }
        return &f;
}

#define HOLD_LOOK_US 10000

static void hold(void)
{
        const char *path = getenv("MOULT_FAULT_HOLD");
        int fd = path != NULL ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644) : -1;
        if (fd < 0)
                g_error("MOULT_FAULT_HOLD: no file to hold on to");
        close(fd);
        while (access(path, F_OK) ==
               0) /* nobody tells of a file that goes without more code than a test is worth */
                g_usleep(HOLD_LOOK_US);
}

static enum action pass(const char *name)
{
        static GOnce once = G_ONCE_INIT;
        struct fault_rules *f = g_once(&once, rules_read, NULL);
        enum action todo = ACTION_NONE;

        if (f->trace_fd >= 0) {
                char line[128];
                int n = g_snprintf(line, sizeof line, "%s\n", name);
                ssize_t written = write(f->trace_fd, line, MIN((size_t)n, sizeof line - 1));
                (void)written; /* the campaign sees a missing line */
        }
        for (unsigned i = 0; i < f->n; i++) {
                struct rule *r = &f->rules[i];
                if (strcmp(r->name, name) != 0)
                        continue;
                unsigned passed = (unsigned)g_atomic_int_add(&r->passed, 1) + 1;
                if (r->at == 0 || r->at == passed)
                        todo = r->action;
        }
        if (todo == ACTION_KILL)
                kill(getpid(), SIGKILL);
        if (todo == ACTION_STOP)
                kill(getpid(), SIGSTOP);
        if (todo == ACTION_HOLD)
                hold();
        return todo;
}

int fault_point(const char *name)
{
        switch (pass(name)) {
        case ACTION_EIO:
                return EIO;
        case ACTION_ENOSPC:
                return ENOSPC;
        default:
                return 0;
        }
}

bool fault_skip(const char *name)
{
        return pass(name) == ACTION_SKIP;
}
#endif
