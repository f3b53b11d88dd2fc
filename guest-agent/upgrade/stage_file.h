/* guest-agent/upgrade/stage_file.h - one file on its way into the staging area, chunk by chunk, by several
 * threads. */
#pragma once

#include "guest-agent/upgrade/stage.h"

/* What a worker thread owns. */
typedef struct StageWorker StageWorker;
StageWorker *stage_worker_new(void);
void stage_worker_free(StageWorker *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StageWorker, stage_worker_free)
/* See pack_reader_prefetch(). */
gboolean stage_worker_prefetch(StageWorker *w, PackReader *pack, guint64 offset, gsize len, GCancellable *c,
                               GError **error);

typedef struct StageFile StageFile;
StageFile *stage_file_new(Plan *p, guint32 entry, PackReader *pack, const struct stage_options *options);
void stage_file_free(StageFile *f);
guint64 stage_file_chunks(const StageFile *f);
/* Stages chunks [first, first+count). Thread-safe for different chunks. The thread that does the last one
 * finishes the file. */
gboolean stage_file_chunks_do(StageFile *f, StageWorker *w, guint64 first, guint64 count, GCancellable *c,
                              GError **error);
