/* guest-agent/upgrade/transaction_agent.c - a release that replaces the program which applies it.
 *
 * That file is switched last, and only after it was run with everything else of the release in place: what is
 * at the agent's path can take the release back, whatever is killed. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "guest-agent/upgrade/transaction_parts.h"
#include "proto/message.h"

void transaction_mark_agent(const Transaction *t, Moult__Record__Plan *record)
{
        const struct upgrade_own_program *own = &t->u->own;
        if (own->inode == 0)
                return;
        for (guint i = 0; i < t->manifest->n_entries; i++) {
                const struct plan_entry *pe = &t->plan->entries[i];
                if (pe->old_inode == own->inode && pe->old_dev == own->dev &&
                    (pe->how == HOW_EXCHANGE || pe->how == HOW_MERGE) &&
                    t->manifest->entries[i]->type == MOULT__ENTRY_TYPE__ENTRY_FILE) {
                        record->agent = i + 1;
                        return;
                }
        }
}

/* Merged: it can be seen already. */
static gboolean open_merged(Transaction *t, int *ret_fd, GError **error)
{
        g_autofree char *path = message_string(t->manifest->entries[t->record->agent - 1]->path);
        *ret_fd = fs_beneath_open(t->u->root_fd, path, O_RDONLY, 0, error);
        return *ret_fd >= 0;
}

static gboolean is_step(const Moult__Record__Plan *plan)
{
        for (size_t i = 0; i < plan->n_steps; i++)
                if (plan->steps[i]->entry == plan->agent - 1)
                        return TRUE;
        return FALSE;
}

/* An agent that goes on with what its predecessor began may be the new one itself. */
static gboolean runs_already(const Transaction *t, int fd)
{
        struct stat st;
        return fstat(fd, &st) == 0 && st.st_ino == t->u->own.inode && st.st_dev == t->u->own.dev;
}

static gboolean try_agent(Transaction *t, int fd, GError **error)
{
        g_autoptr(GError) why = NULL;
        progress_hook(t->progress, "try moult-agent", NULL);
        int fake = fault_point("try-agent");
        if (fake != 0)
                return moult_error_errno(error, fake, "trying the new agent");
        if (t->u->own.try_it(fd, t->u->own.user, &why))
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_HEALTH,
                    "the release brings a new agent that is not fit to run here; the one that runs has tried "
                    "it: %s",
                    why->message);
        return FALSE;
}

gboolean transaction_switch_agent(Transaction *t, GError **error)
{
        if (t->record->agent == 0)
                return TRUE;
        struct commit_context c = engine_commit_context(t->u, t->g, t->manifest, t->record);
        g_autoptr(GString) notes = g_string_new(NULL);
        scoped_fd int fd = -1;
        if (!(is_step(t->record) ? commit_open_agent(&c, &fd, error) : open_merged(t, &fd, error)))
                return FALSE;
        if (fd >= 0 && t->u->own.try_it != NULL && !runs_already(t, fd) && !try_agent(t, fd, error))
                return FALSE;
        return commit_forward_agent(&c, notes, error);
}

/* ---- its first starts ---- */

/* Merged, it has no step: then any agent that starts with it is taken for it. */
static gboolean is_agent_of(const Upgrade *u, const Moult__Record__Plan *plan)
{
        if (plan->agent == 0 || u->own.inode == 0)
                return FALSE;
        for (size_t i = 0; i < plan->n_steps; i++)
                if (plan->steps[i]->entry == plan->agent - 1)
                        return plan->steps[i]->new_inode == u->own.inode;
        return TRUE;
}

gboolean agent_start_is_one_too_many(Upgrade *u, Generation *g)
{
        JournalStep last = journal_last(g->journal);
        if (last < JOURNAL_COMMIT || last > JOURNAL_ACTIVE)
                return FALSE;
        Moult__Record__Plan *plan = generation_load_plan(g, NULL);
        gboolean ours = plan != NULL && is_agent_of(u, plan);
        if (plan != NULL)
                moult__record__plan__free_unpacked(plan, NULL);
        scoped_fd int fd = ours ? openat(g->dirfd, "agent-starts",
                                         O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600)
                                : -1;
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
                return FALSE; /* on a full disk the dead-man time alone decides */
        if (st.st_size >= AGENT_STARTS_MAX)
                return TRUE;
        if (write(fd, ".", 1) == 1)
                fdatasync(fd);
        fault_point("start-agent");
        return FALSE;
}
