/* host-service/hypervisor/hypervisor.c - calls through the operations table. */
#include "host-service/hypervisor/hypervisor.h"

void hypervisor_set_events(Hypervisor *h, hypervisor_event_func on_event, gpointer user)
{
        h->on_event = on_event;
        h->user = user;
}

void hypervisor_query_status(Hypervisor *h, hypervisor_status_func done, gpointer user)
{
        h->ops->query_status(h, done, user);
}

void hypervisor_command(Hypervisor *h, const char *command, JsonObject *arguments, hypervisor_reply_func done,
                        gpointer user)
{
        h->ops->command(h, command, arguments, done, user);
}

void hypervisor_disks(Hypervisor *h, VirtDisks what, JsonObject *arguments, hypervisor_reply_func done,
                      gpointer user)
{
        h->ops->disks(h, what, arguments, done, user);
}

void hypervisor_query_backing(Hypervisor *h, hypervisor_files_func done, gpointer user)
{
        h->ops->query_backing(h, done, user);
}

void hypervisor_plug_pack(Hypervisor *h, const char *path, guint64 size_bytes, HypervisorWindow window,
                          hypervisor_done_func done, gpointer user)
{
        h->ops->plug_pack(h, path, size_bytes, window, done, user);
}

void hypervisor_unplug_pack(Hypervisor *h, hypervisor_done_func done, gpointer user)
{
        h->ops->unplug_pack(h, done, user);
}

gboolean hypervisor_is_plugged(const Hypervisor *h)
{
        return h->ops->is_plugged(h);
}

gboolean hypervisor_keeps(const Hypervisor *h, const char *path)
{
        return h->ops->keeps(h, path);
}

void hypervisor_free(Hypervisor *h)
{
        if (h)
                h->ops->free(h);
}
