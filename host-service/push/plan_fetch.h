/* host-service/push/plan_fetch.h - copies a guest's plan into the catalogue, page by page. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/guests/guests.h"

typedef struct PlanFetch PlanFetch;

/* Begins at once. @done runs at most once, when everything is stored or the guest refused a page (@error, for
 * the log); if the session goes away it never runs: free it then and begin again. @r must outlive it. */
PlanFetch *plan_fetch_new(Catalogue *c, Guests *g, Session *s, const PushRecord *r,
                          void (*done)(const GError *error, gpointer user), gpointer user);
void plan_fetch_free(PlanFetch *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PlanFetch, plan_fetch_free)
