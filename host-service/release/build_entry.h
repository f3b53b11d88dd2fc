/* host-service/release/build_entry.h - one item of the plan as an entry of the manifest. */
#pragma once

#include "host-service/release/build_plan.h"
#include "proto/manifest.pb-c.h"

/* An entry that borrows its bytes from the trees, and owns only the small tables around them. */
typedef struct {
        Moult__Entry message;
        ProtobufCBinaryData old_digest;
        Moult__Xattr *xattr_storage, **xattr_table;
} BuildEntry;

/* The content fields of a file are left to the pack writer. The trees must outlive @e. */
void build_entry_init(BuildEntry *e, const BuildTree *new_tree, const BuildTree *old_tree,
                      const struct build_item *item, Moult__Delivery delivery);
const Moult__Entry *build_entry_message(const BuildEntry *e);
void build_entry_clear(BuildEntry *e);
