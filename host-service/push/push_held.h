/* host-service/push/push_held.h - the earlier push that a guest is busy with although it has ended here.
 *
 * A push that was given up without the guest's last word may still stand there, planned or staged, and keep
 * the guest busy until its own patience is over. Its row says so (`held`) until the guest says that it is
 * gone. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "host-service/push/push_talk.h"

struct push_held {
        guint8 id[16];  /* of the push that the guest was asked to forget */
        gboolean known; /* id counts */
        gboolean
                asked; /* the answer that comes next is to that; the owner says when it asks something else */
};

/* Asks the guest to forget the newest such push, if there is one. */
void push_held_ask(struct push_held *h, Catalogue *c, PushTalk *talk, const char *vm);
/* Any state of the guest: if it says that the push is over, its row is told. */
void push_held_received(struct push_held *h, Catalogue *c, const Moult__TransactionState *s);
