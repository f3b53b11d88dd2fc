/* guest-agent/plan_page.c - the plan of a push, told page by page. */
#include "guest-agent/plan_page.h"

#include "proto/limits.h"

/* Bytes of one page: a frame holds 512 KiB. */
#define PAGE_BYTES (256u * 1024u)

void plan_page_answer(Operation *op, struct ticket *ticket, const Moult__PlanQuery *query)
{
        g_autofree Moult__PlanItem **items = g_new(Moult__PlanItem *, LIMIT_PLAN_PAGE);
        Moult__PlanPage page = MOULT__PLAN_PAGE__INIT;
        Message m = MOULT__MESSAGE__INIT;
        size_t bytes = 0;

        page.push_id = query->push_id;
        page.total = operation_plan_size(op);
        page.first = MIN(query->first, page.total);
        page.items = items;
        while (page.n_items < MIN(query->count, LIMIT_PLAN_PAGE) && page.first + page.n_items < page.total &&
               bytes < PAGE_BYTES) {
                const Moult__PlanItem *item = operation_plan_item(op, page.first + (guint)page.n_items);

                items[page.n_items++] = (Moult__PlanItem *)item;
                bytes += moult__plan_item__get_packed_size(item);
        }
        m.body_case = MOULT__MESSAGE__BODY_PLAN_PAGE;
        m.plan_page = &page;
        ticket_reply(ticket, &m);
}
