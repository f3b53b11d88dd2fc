/* host-service/cli/main.c - `moult`: the hypervisor console's command.
 *
 * The command runs in a thread of its own and may block; the main thread keeps the loop and turns Ctrl-C and
 * SIGTERM into a cancellation, so that every command ends by cleaning up. */
#include <errno.h>
#include <glib-unix.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/libcrypto.h"
#include "host-service/cli/command.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/failure.h"

struct run {
        Cli cli;
        int argc;
        char **argv;
        GMainLoop *loop;
        unsigned interrupts;
        ExitCode code;
};

/* The third time somebody means it: the process ends where it is. */
static gboolean on_interrupt(gpointer data)
{
        struct run *run = data;

        if (++run->interrupts >= 3)
                _exit(EXIT_CODE_CANCELLED);
        g_cancellable_cancel(run->cli.cancellable);
        return G_SOURCE_CONTINUE;
}

/* Whoever read our results has gone: `moult events --follow | head`. */
static gboolean on_reader_gone(gint fd, GIOCondition condition, gpointer data)
{
        struct run *run = data;

        g_cancellable_cancel(run->cli.cancellable);
        return G_SOURCE_REMOVE;
}

static gboolean quit(gpointer data)
{
        struct run *run = data;

        g_main_loop_quit(run->loop);
        return G_SOURCE_REMOVE;
}

/* The errno of an earlier failed write is gone by now; a pipe without a reader can be recognised still. */
static bool is_closed_pipe(FILE *f)
{
        struct pollfd p = {.fd = fileno(f), .events = POLLOUT};

        return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

/* A result that could not be written was not given. A closed pipe is the reader's own wish. */
static ExitCode flush_results(Cli *cli, ExitCode code)
{
        errno = 0;
        if (fflush(cli->out) == 0 && !ferror(cli->out))
                return code;
        int e = errno;
        if (e == EPIPE || is_closed_pipe(cli->out))
                return code;
        fprintf(cli->err, "moult: writing the result: %s\n", g_strerror(e ? e : EIO));
        if (code != EXIT_CODE_OK)
                return code;
        return e == ENOSPC ? EXIT_CODE_NO_SPACE : EXIT_CODE_IO;
}

static gpointer run_command(gpointer data)
{
        struct run *run = data;
        g_autoptr(GError) error = NULL;

        run->code = command_dispatch(&command_root, &run->cli, run->argc, run->argv, &error);
        if (error)
                run->code = failure_print(&run->cli, error);
        run->code = flush_results(&run->cli, run->code);
        g_idle_add(quit, run);
        return NULL;
}

/* What our parent had ignored (nohup, a shell's background job) stays ignored. */
static void watch(int signal_number, struct run *run)
{
        struct sigaction now;

        if (sigaction(signal_number, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
                return;
        g_unix_signal_add(signal_number, on_interrupt, run);
}

int main(int argc, char **argv)
{
        struct run run = {.argc = argc};

        libcrypto_start();
        setlocale(LC_ALL, "");
        signal(SIGPIPE, SIG_IGN);
        run.argv = g_strdupv(argv); /* GOption edits it */
        run.cli.out = stdout;
        run.cli.err = stderr;
        run.cli.cancellable = g_cancellable_new();
        run.loop = g_main_loop_new(NULL, FALSE);
        watch(SIGINT, &run);
        watch(SIGTERM, &run);
        watch(SIGHUP, &run);

        struct stat st;
        if (fstat(STDOUT_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
                g_unix_fd_add(STDOUT_FILENO, G_IO_ERR, on_reader_gone, &run);

        char **argv_owned = g_memdup2(run.argv, ((gsize)argc + 1) * sizeof *run.argv);
        GThread *thread = g_thread_new("command", run_command, &run);
        g_main_loop_run(run.loop);
        g_thread_join(thread);

        for (int i = 0; i < argc; i++)
                g_free(argv_owned[i]);
        g_free(argv_owned);
        g_free(run.argv);
        g_main_loop_unref(run.loop);
        cli_clear(&run.cli);
        return (int)run.code;
}
