/* host-service/push/guest_desk.c - answers what the API asks about living guests. */
#include "host-service/push/guest_desk.h"

static Session *any_session(const struct guest_desk *d, const char *vm)
{
        Session *s = guests_session(d->guests, vm, GUEST_SESSION_SERIAL);

        return s ? s : guests_session(d->guests, vm, GUEST_SESSION_TLS);
}

static void view_status(gpointer self, const char *vm, struct guest_status *ret)
{
        const struct guest_desk *d = self;
        gboolean serial = guests_session(d->guests, vm, GUEST_SESSION_SERIAL) != NULL;
        gboolean tls = guests_session(d->guests, vm, GUEST_SESSION_TLS) != NULL;

        ret->connected = serial || tls;
        ret->transport = serial ? "virtio-serial" : tls ? "tls" : NULL;
        ret->software = ret->connected ? guests_software(d->guests, vm) : NULL;
        ret->qmp = vm_notes_qmp_answers(d->notes, vm);
        ret->away = guests_away(d->guests, vm);
        ret->tells_facts = ret->connected && session_peer_can(any_session(d, vm), CAPABILITY_FACTS);
        ret->freezes = ret->connected && session_peer_can(any_session(d, vm), CAPABILITY_FREEZE);
}

static void view_look(gpointer self, const char *vm, guest_looked_func done, gpointer user)
{
        const struct guest_desk *d = self;

        vm_notes_look(d->notes, vm, done, user);
}

static Hypervisor *view_hypervisor(gpointer self, const char *vm)
{
        const struct guest_desk *d = self;

        return guests_hypervisor(d->guests, vm);
}

static void view_history(gpointer self, const char *vm, guint n, guint timeout_ms, guest_history_func done,
                         gpointer user)
{
        const struct guest_desk *d = self;

        guest_asks_add_history(d->asks, any_session(d, vm), n, timeout_ms, done, user);
}

static void view_ask(gpointer self, const char *vm, const Message *question, gsize answer_bytes,
                     guint timeout_ms, guest_answer_func done, gpointer user)
{
        const struct guest_desk *d = self;
        Session *s = any_session(d, vm);

        if (s)
                guests_expect(d->guests, vm, s, answer_bytes);
        guest_asks_add(d->asks, s, question, timeout_ms, done, user);
}

static void view_vm_changed(gpointer self, const char *vm)
{
        const struct guest_desk *d = self;

        guests_vm_changed(d->guests, vm);
        vm_notes_forget(d->notes, vm);
        vm_backings_vm_changed(d->backings, vm);
        leftovers_forget(d->leftovers, vm);
}

static char *view_mapped_by(gpointer self, const guint8 digest[static 32])
{
        const struct guest_desk *d = self;

        return d->mapped_by(d->user, digest);
}

static char *view_pushed_by(gpointer self, const char *vm)
{
        const struct guest_desk *d = self;

        return d->pushed_by(d->user, vm);
}

static const struct guest_view_ops view_ops = {
        .look = view_look,
        .status = view_status,
        .hypervisor = view_hypervisor,
        .history = view_history,
        .ask = view_ask,
        .vm_changed = view_vm_changed,
        .mapped_by = view_mapped_by,
        .pushed_by = view_pushed_by,
};

struct guest_view guest_desk_view(const struct guest_desk *d)
{
        return (struct guest_view){.ops = &view_ops, .self = (gpointer)d};
}
