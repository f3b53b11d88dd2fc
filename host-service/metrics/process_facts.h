/* host-service/metrics/process_facts.h - what Prometheus wants to know of every process. */
#pragma once

#include <glib.h>

/* Appends the process_* families. @started_s: Unix time. What /proc does not tell is left out. */
void process_facts_add(GString *out, double started_s);
