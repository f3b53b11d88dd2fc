/* host-service/cli/progress_meter.h - how far, how fast, how long still: arithmetic only, time is an input.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

struct progress_meter {
        uint64_t done, total; /* bytes */
        int64_t sampled_us;   /* monotonic time of the sample that rate was last computed from; 0: none yet */
        uint64_t sampled_done;
        double rate; /* bytes per second, smoothed over some seconds; 0: not known yet */
};

/* A @done that goes back (another phase, a resumed transfer) starts the rate anew. */
void progress_meter_update(struct progress_meter *m, int64_t now_us, uint64_t done, uint64_t total);
/* 0 to 100; 100 only when all is done; -1 if the total is unknown. */
double progress_meter_percent(const struct progress_meter *m);
/* Seconds, rounded up; -1 if nobody can know. */
int64_t progress_meter_eta_s(const struct progress_meter *m);

/* "web-1  staging  [=====>    ]  52%  1.2 GiB of 2.3 GiB  230.0 MiB/s  5 s left", cut to @columns. Owned. */
char *progress_meter_line(const struct progress_meter *m, const char *key, const char *phase,
                          unsigned columns);
/* One JSON object, without a newline. Owned. */
char *progress_meter_json(const struct progress_meter *m, const char *key, const char *phase);
