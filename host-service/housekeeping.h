/* host-service/housekeeping.h - what the catalogue need not remember any more goes, a little at a time. */
#pragma once

#include "host-service/catalogue/catalogue.h"

typedef struct Housekeeping Housekeeping;

/* Begins at once, then every ten minutes. A failure is logged; the next time tries again. */
Housekeeping *housekeeping_new(const struct host_env *env, Catalogue *c);
void housekeeping_free(Housekeeping *h);
