/* tests/sim/main.c - sim: runs seeds, each in the same process as the ones before, in as many processes as
 * are asked for. A failing seed is told with what to type to see it again. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/events.h"
#include "common/libcrypto.h"
#include "tests/sim/faults.h"
#include "tests/sim/history.h"
#include "tests/sim/host.h"
#include "tests/sim/mutants.h"

#define JOBS_MAX     64
#define SEED_SECONDS 120 /* one that takes longer hangs */
#define FAILED_MAX   5   /* then the rest would tell no more */

struct settings {
        gint64 seed;
        gint seeds, jobs;
        gboolean trace, digest, list, stop_at_first;
        char *mutant, *only;
        gint only_class;
};

/* What a process tells the one that started it. */
struct shared {
        guint64 seed; /* that it runs */
        guint64 done, failed, first_failed;
        gint64 simulated_us;
        guint64 operations;
};

static gboolean is_enough(const struct settings *s, const struct shared *all)
{
        guint64 failed = 0;

        for (int i = 0; i < s->jobs; i++)
                failed += all[i].failed;
        return failed >= (s->stop_at_first ? 1 : FAILED_MAX);
}

static int run_seeds(const struct settings *s, int job, struct shared *all)
{
        struct shared *shared = &all[job];
        g_autoptr(Vault) vault = vault_new();
        g_autoptr(GBytes) template = host_template_new(vault);
        struct history_options options = {vault, template, s->trace, s->only_class};

        for (gint64 i = job; i < s->seeds && !is_enough(s, all); i += s->jobs) {
                struct history_result r = {0};

                shared->seed = (guint64)(s->seed + i);
                alarm(SEED_SECONDS);
                history_run(shared->seed, &options, &r);
                alarm(0);
                shared->done++;
                shared->simulated_us += r.simulated_us;
                shared->operations += r.operations;
                if (s->digest)
                        printf("%" G_GUINT64_FORMAT " %s\n", shared->seed, r.digest);
                if (r.failure) {
                        printf("seed %" G_GUINT64_FORMAT
                               ": %s\n  see it again with: sim --seed %" G_GUINT64_FORMAT " --trace%s%s\n",
                               shared->seed, r.failure, shared->seed, s->mutant ? " --mutant " : "",
                               s->mutant ? s->mutant : "");
                        if (shared->failed++ == 0)
                                shared->first_failed = shared->seed;
                }
                history_result_clear(&r);
        }
        fflush(stdout);
        return shared->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_jobs(const struct settings *s)
{
        struct shared *shared = mmap(NULL, JOBS_MAX * sizeof *shared, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct shared sum = {0};
        pid_t pids[JOBS_MAX];
        gint64 begin = g_get_monotonic_time();
        int status, worst = EXIT_SUCCESS;

        if (shared == MAP_FAILED)
                g_error("no shared memory");
        fflush(stdout);
        for (int i = 0; i < s->jobs; i++) {
                pids[i] = fork();
                if (pids[i] == 0)
                        exit(run_seeds(s, i, shared));
        }
        for (int i = 0; i < s->jobs; i++) {
                waitpid(pids[i], &status, 0);
                sum.done += shared[i].done;
                sum.failed += shared[i].failed;
                sum.simulated_us += shared[i].simulated_us;
                sum.operations += shared[i].operations;
                if (status != 0)
                        worst = EXIT_FAILURE;
                if (!WIFEXITED(status))
                        printf("seed %" G_GUINT64_FORMAT ": the process died of signal %d\n", shared[i].seed,
                               WTERMSIG(status));
                else if (status != 0 && shared[i].failed == 0)
                        printf("seed %" G_GUINT64_FORMAT " or one before: the process ended with %d\n",
                               shared[i].seed, WEXITSTATUS(status));
        }
        printf("%" G_GUINT64_FORMAT " seeds, %" G_GUINT64_FORMAT " failed, %" G_GUINT64_FORMAT
               " operations, %.1f h simulated, %.1f s\n",
               sum.done, sum.failed, sum.operations, (double)sum.simulated_us / 3.6e9,
               (double)(g_get_monotonic_time() - begin) / 1e6);
        munmap(shared, JOBS_MAX * sizeof *shared);
        return worst;
}

static gboolean choose_class(struct settings *s)
{
        s->only_class = -1;
        if (!s->only)
                return TRUE;
        if (g_str_equal(s->only, "none")) {
                s->only_class = -2;
                return TRUE;
        }
        for (guint i = 0; i < FAULTS; i++)
                if (g_str_equal(s->only, fault_name((Fault)i)))
                        s->only_class = (gint)i;
        return s->only_class >= 0;
}

static gboolean parse(struct settings *s, int *argc, char ***argv, GError **error)
{
        const GOptionEntry entries[] = {
                {"seed", 's', 0, G_OPTION_ARG_INT64, &s->seed, "The first seed (1)", "N"},
                {"seeds", 'n', 0, G_OPTION_ARG_INT, &s->seeds, "How many (1)", "COUNT"},
                {"jobs", 'j', 0, G_OPTION_ARG_INT, &s->jobs, "Processes (1)", "N"},
                {"trace", 't', 0, G_OPTION_ARG_NONE, &s->trace, "Show each step", NULL},
                {"digest", 'd', 0, G_OPTION_ARG_NONE, &s->digest, "Show the digest of each history", NULL},
                {"first", 'f', 0, G_OPTION_ARG_NONE, &s->stop_at_first, "Stop at the first failure", NULL},
                {"faults", 0, 0, G_OPTION_ARG_STRING, &s->only, "One class of faults only; or none", "CLASS"},
                {"mutant", 'm', 0, G_OPTION_ARG_STRING, &s->mutant, "With this bug in the host", "NAME"},
                {"mutants", 0, 0, G_OPTION_ARG_NONE, &s->list, "List the bugs", NULL},
                {NULL}};
        g_autoptr(GOptionContext) context = g_option_context_new("- a simulated host service, by seeds");

        g_option_context_add_main_entries(context, entries, NULL);
        if (!g_option_context_parse(context, argc, argv, error))
                return FALSE;
        if (s->seeds < 1 || s->jobs < 1 || s->jobs > JOBS_MAX || !choose_class(s) ||
            (s->mutant && !mutants_choose(s->mutant))) {
                g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                                    "an option's value is out of range or unknown: see --help and --mutants");
                return FALSE;
        }
        return TRUE;
}

int main(int argc, char **argv)
{
        struct settings s = {.seed = 1, .seeds = 1, .jobs = 1};
        g_autoptr(GError) error = NULL;
        int status;

        /* Each history has its disks anew: they come from the heap, which does not go back meanwhile. */
        mallopt(M_MMAP_THRESHOLD, 64 << 20);
        mallopt(M_TRIM_THRESHOLD, 1 << 30);
        libcrypto_start();
        setvbuf(stdout, NULL, _IOFBF, 65536);
        g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING | G_LOG_FATAL_MASK);
        /* The host's own log goes to stderr; it only helps who looks at one seed. */
        if (!parse(&s, &argc, &argv, &error)) {
                fprintf(stderr, "sim: %s\n", error->message);
                return 2;
        }
        event_set_level(s.trace ? EVENT_DEBUG : (EventLevel)(EVENT_ERROR + 1));
        if (s.list)
                mutants_print();
        status = s.list ? EXIT_SUCCESS : run_jobs(&s);
        g_free(s.mutant);
        g_free(s.only);
        return status;
}
