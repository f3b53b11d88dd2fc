/* shm/entry_metadata.h - the owner, mode, times and attributes that an entry of the list asks for. */
#pragma once

#include "common/metadata.h"
#include "proto/manifest.pb-c.h"

/* The caller frees. */
Metadata *metadata_from_entry(const Moult__Entry *e);
