/* host-service/service.h - the host service put together: catalogue, releases, pushes, jobs, API; owned by
 * main. */
#pragma once

#include "host-service/config.h"
#include "host-service/env.h"

typedef struct Service Service;

/* Opens everything and listens; what a killed daemon left behind is taken up from the loop. @env and @config
 * must outlive the service. */
Service *service_new(const struct host_env *env, const struct host_config *config, GError **error);
/* Unfinished operations stay in the catalogue for the next start. */
void service_free(Service *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Service, service_free)
