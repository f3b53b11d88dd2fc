/* host-service/snapshot/vm_turns.c - whose turn it is to change a VM's disks. */
#include "host-service/snapshot/vm_turns.h"

struct turn {
        char *vm;
        const char *what;
        vm_turn_func granted;
        gpointer user;
        gboolean told;
};

struct VmTurns {
        const struct host_env *env;
        GQueue all; /* of struct turn, in the order of the asking: the first of a VM has the turn */
        GSource *soon;
};

static void turn_free(gpointer data)
{
        struct turn *turn = data;

        g_free(turn->vm);
        g_free(turn);
}

VmTurns *vm_turns_new(const struct host_env *env)
{
        VmTurns *t = g_new0(VmTurns, 1);

        t->env = env;
        g_queue_init(&t->all);
        return t;
}

void vm_turns_free(VmTurns *t)
{
        if (!t)
                return;
        host_timer_clear(&t->soon);
        g_queue_clear_full(&t->all, turn_free);
        g_free(t);
}

static struct turn *first_of(VmTurns *t, const char *vm)
{
        for (GList *l = t->all.head; l; l = l->next)
                if (g_str_equal(((const struct turn *)l->data)->vm, vm))
                        return l->data;
        return NULL;
}

/* Somebody whose turn it is, and who does not know it. */
static struct turn *untold(VmTurns *t)
{
        for (GList *l = t->all.head; l; l = l->next) {
                struct turn *turn = l->data;

                if (!turn->told && first_of(t, turn->vm) == turn)
                        return turn;
        }
        return NULL;
}

static gboolean grant(gpointer user)
{
        VmTurns *t = user;
        struct turn *turn;

        host_timer_clear(&t->soon);
        while ((turn = untold(t))) {
                turn->told = TRUE;
                turn->granted(turn->user); /* it may leave, or others may ask, from inside */
        }
        return G_SOURCE_REMOVE;
}

static void grant_soon(VmTurns *t)
{
        if (!t->soon)
                t->soon = host_timer_add(t->env, 0, grant, t);
}

const char *vm_turns_ask(VmTurns *t, const char *vm, const char *what, vm_turn_func granted, gpointer user)
{
        const struct turn *other = first_of(t, vm);
        struct turn *turn = g_new0(struct turn, 1);

        *turn = (struct turn){.vm = g_strdup(vm), .what = what, .granted = granted, .user = user};
        g_queue_push_tail(&t->all, turn);
        grant_soon(t);
        return other ? other->what : NULL;
}

void vm_turns_leave(VmTurns *t, gconstpointer user)
{
        for (GList *l = t->all.head; l; l = l->next) {
                if (((const struct turn *)l->data)->user != user)
                        continue;
                turn_free(l->data);
                g_queue_delete_link(&t->all, l);
                grant_soon(t);
                return;
        }
}
