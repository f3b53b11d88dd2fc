/* host-service/push/plan_fetch.c - copies a guest's plan into the catalogue. */
#include "host-service/push/plan_fetch.h"

#include <string.h>

#include "proto/limits.h"

#define PAGE_TIMEOUT_MS 30000u
/* What the catalogue keeps, in full pages; a guest that sends it in crumbs is cut off. */
#define PAGES_MAX 400u

struct PlanFetch {
        Catalogue *catalogue;
        Guests *guests;
        Session *session;
        const PushRecord *record;
        void (*done)(const GError *error, gpointer user);
        gpointer user;
        guint64 request;
        guint32 first;
        guint pages;
};

static void ask(PlanFetch *f);

static void finish(PlanFetch *f, const GError *error)
{
        f->done(error, f->user); /* may free us */
}

static void on_page(Session *s, const Message *reply, const GError *error, gpointer user)
{
        PlanFetch *f = user;
        g_autoptr(GError) store_error = NULL;
        const Moult__PlanPage *page;

        f->request = 0;
        if (error) {
                finish(f, error);
                return;
        }
        page = reply->plan_page;
        if (page->first != f->first || page->push_id.len != sizeof(f->record->push_id) ||
            memcmp(page->push_id.data, f->record->push_id, page->push_id.len) != 0) {
                store_error = g_error_new(MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                          "the guest sent another page of the plan");
                finish(f, store_error);
                return;
        }
        if (!catalogue_plan_put(f->catalogue, f->record->operation, f->record->vm, page, &store_error)) {
                finish(f, store_error);
                return;
        }
        f->first += (guint32)page->n_items;
        if (page->n_items == 0 || f->first >= page->total || ++f->pages >= PAGES_MAX)
                finish(f, NULL);
        else
                ask(f);
}

static void ask(PlanFetch *f)
{
        Moult__PlanQuery query = MOULT__PLAN_QUERY__INIT;
        Message m = MOULT__MESSAGE__INIT;

        query.push_id = message_blob(f->record->push_id, sizeof(f->record->push_id));
        query.first = f->first;
        query.count = LIMIT_PLAN_PAGE;
        m.body_case = MOULT__MESSAGE__BODY_PLAN_QUERY;
        m.plan_query = &query;
        guests_expect(f->guests, f->record->vm, f->session, LIMIT_FRAME_PAYLOAD);
        f->request = session_request(f->session, &m, PAGE_TIMEOUT_MS, on_page, f);
}

PlanFetch *plan_fetch_new(Catalogue *c, Guests *g, Session *s, const PushRecord *r,
                          void (*done)(const GError *error, gpointer user), gpointer user)
{
        PlanFetch *f = g_new0(PlanFetch, 1);

        f->catalogue = c;
        f->guests = g;
        f->session = session_ref(s);
        f->record = r;
        f->done = done;
        f->user = user;
        ask(f);
        return f;
}

void plan_fetch_free(PlanFetch *f)
{
        if (!f)
                return;
        if (f->request)
                session_forget(f->session, f->request);
        session_unref(f->session);
        g_free(f);
}
