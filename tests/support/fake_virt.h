/* tests/support/fake_virt.h - a libvirt that hands commands on to a FakeQmp, and breaks on request. */
#pragma once

#include "host-service/env.h"

typedef struct FakeVirt FakeVirt;

/* Puts itself into @env; its domains' monitors are the one at @qmp_path. Nobody listening there: they are
 * off. */
FakeVirt *fake_virt_new(struct host_env *env, const char *qmp_path);
void fake_virt_free(FakeVirt *v);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FakeVirt, fake_virt_free)
/* Every domain hears @event. */
void fake_virt_tell(FakeVirt *v, VirtEvent event, const char *detail, const char *data);
/* So many of the next commands are done, and their answers lost with the connection. */
void fake_virt_lose(FakeVirt *v, guint count);
