/* shm/entry_metadata.h - the type, owner, mode, times and attributes that an entry of the list asks for. */
#pragma once

#include "common/metadata.h"
#include "proto/manifest.pb-c.h"

/* The caller frees. */
Metadata *metadata_from_entry(const Moult__Entry *e);

/* Of what stat(2) says: a FILE for whatever is none of the other types, as regular files and sockets. */
Moult__EntryType entry_type_of_mode(mode_t mode);
