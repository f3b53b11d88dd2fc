/* guest-agent/upgrade/record_metadata.h - metadata in a generation's record: how a directory was before. */
#pragma once

#include "common/metadata.h"
#include "guest-agent/upgrade/record.pb-c.h"

/* The caller frees. */
Metadata *metadata_from_record(const Moult__Record__Metadata *r);
/* Freed with moult__record__metadata__free_unpacked(). */
Moult__Record__Metadata *metadata_to_record(const Metadata *m);
