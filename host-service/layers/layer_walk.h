/* host-service/layers/layer_walk.h - the ranges of a reader, one after the other, each judged. */
#pragma once

#include "host-service/layers/layer_io.h"

struct layer_walk {
        struct layer_reader *reader;
        uint64_t at; /* what comes next */
        /* private */
        GArray *ranges;
        guint next;
};

void layer_walk_init(struct layer_walk *w, struct layer_reader *r);
void layer_walk_clear(struct layer_walk *w);
/* The next range; of no length: that was all. MALFORMED: the reader says what cannot be. */
gboolean layer_walk_next(struct layer_walk *w, struct layer_range *ret, GCancellable *cancellable,
                         GError **error);
/* Bytes of all ranges of data. */
gboolean layer_walk_count(struct layer_reader *r, uint64_t *ret_data_bytes, GCancellable *cancellable,
                          GError **error);
